"""Container launch: turns a container's spec into the command line, variables and folders of its process."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from localkube.kubelet import device_manager, environment, termination_message, volumes
from localkube.kubelet.api_errors import NotFoundError
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.client import Object
from localkube.kubelet.container_process import Launch
from localkube.kubelet.environment import ConfigError, Facts
from localkube.kubelet.node_context import NodeContext
from localkube.kubelet.pod_status import HOST
from localkube.kubelet.probes import Target, ports_of
from localkube.kubelet.variable_expansion import expand
from localkube.kubelet.volume_mounts import Mounts

_PLURALS = {"configMapRef": "configmaps", "secretRef": "secrets"}


class StartError(Exception):
    """The process cannot be started: its program is not on this machine."""


async def prepare(
    node: NodeContext, record: PodRecord, container: Object, folders: Mapping[str, Path]
) -> tuple[Launch, Target]:
    """Return how to start the next run of a container, and how its probes reach it.

    Raises NoRuntimeError, ConfigError, VolumeError and StartError if it cannot be started now; ApiError.
    """
    runtime = node.images.find(str(container.get("image", "")))
    attempt = record.container(container["name"]).attempt + 1
    folder = node.layout.runs / record.uid / container["name"] / str(attempt)
    table = Mounts(
        [*volumes.mounts(container, folders, record.pod), termination_message.mount(container, folder)]
    )
    facts = await _facts(node, record, container)
    container_variables = environment.variables(container, facts)
    volumes.write_fields(
        record.pod, container, folders, lambda path: table.within(environment.field(path, facts))
    )
    values = environment.inherited(os.environ) | _node_variables(node, record, table)
    values |= {name: table.translate(value) for name, value in container_variables.items()}
    command, args = (
        [table.translate(expand(word, container_variables)) for word in container.get(key) or ()]
        for key in ("command", "args")
    )
    argv = _resolve(runtime.command(command, args), values)
    directory = _directory(node, record, container, table)
    launch = Launch(
        argv=argv,
        environment=values,
        folder=folder,
        directory=directory,
        log=node.layout.log(record.pod, container["name"], attempt),
    )
    return launch, Target(record.address, ports_of(container), values, str(directory), table.translate)


async def _facts(node: NodeContext, record: PodRecord, container: Object) -> Facts:
    sources: dict[tuple[str, str], dict[str, str] | None] = {}
    for kind, name in environment.references(container):
        if (kind, name) not in sources:
            sources[kind, name] = await _source(node, record.pod["metadata"]["namespace"], kind, name)
    return Facts(record.pod, record.address, HOST, sources)


async def _source(node: NodeContext, namespace: str, kind: str, name: str) -> dict[str, str] | None:
    try:
        source = await node.client.get(f"/api/v1/namespaces/{namespace}/{_PLURALS[kind]}/{name}")
    except NotFoundError:
        return None
    return environment.secret_data(source) if kind == "secretRef" else dict(source.get("data") or {})


def _node_variables(node: NodeContext, record: PodRecord, table: Mounts) -> dict[str, str]:
    devices = device_manager.variables(node.devices.ids(record.devices), node.devices.capacity)
    return {"HOSTNAME": record.pod["metadata"]["name"], node.mounts_variable: table.variable(), **devices}


def _resolve(argv: tuple[str, ...], values: Mapping[str, str]) -> tuple[str, ...]:
    if not argv:
        raise ConfigError("no command specified")
    program = shutil.which(argv[0], path=values.get("PATH"))
    if program is None:
        raise StartError(f'exec: "{argv[0]}": executable file not found in $PATH')
    return (str(Path(program).absolute()), *argv[1:])


def _directory(node: NodeContext, record: PodRecord, container: Object, table: Mounts) -> Path:
    """Return the working directory: the workingDir if it is below a mount, else the Pod's container_variables folder."""
    mount_path = table.find(container.get("workingDir") or "")
    directory = Path(mount_path) if mount_path else node.layout.scratch(record.pod)
    directory.mkdir(parents=True, exist_ok=True)
    return directory
