"""What must be in place before the first process of an instance starts: folder, ports, credentials, control plane programs."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.local import instance as instances
from flexinfer.local.instance import LOCAL, Instance, InstanceError
from flexinfer.local.supervisor import provisioning, record
from localkube.process_identity import alive

_PORTS = {
    "etcd": ("etcd", "etcd_peer", "etcd_health"),
    "kube-apiserver": ("api",),
    "kube-controller-manager": ("manager",),
    "kube-scheduler": ("scheduler",),
}
"""The ports of the processes whose name is not that of their port."""


@contextlib.contextmanager
def prepared(
    state: Path, world: str, report: Callable[[str], None], *, audit: bool = False
) -> Iterator[Instance]:
    """Yield the instance with everything in place and its ports reserved; an empty `world` is that of the folder, local for a new one.

    Raises InstanceError, CommandError.
    """
    held = frozenset(
        port
        for entry in record.read(state / "processes.json").entries
        if entry.identity is not None and alive(entry.identity)
        for port in _PORTS.get(entry.name, (entry.name,))
    )
    with instances.opened(state, held=held, api=world) as instance:
        provisioning.write_files(instance)
        if instance.api != LOCAL:
            from flexinfer.local.controlplane import files  # noqa: PLC0415 -- not needed with the local API

            files.write(instance, _programs(report), audit=audit)
        yield instance


def built(state: Path, world: str, report: Callable[[str], None]) -> None:
    """Build or find the control plane programs that the API of a folder needs; the first time takes minutes. Raises CommandError."""
    if (world or _world_of(state)) != LOCAL:
        _programs(report)


def _world_of(state: Path) -> str:
    try:
        return instances.load(state).api
    except InstanceError:
        return LOCAL


def _programs(report: Callable[[str], None]) -> Mapping[str, Path]:
    from flexinfer.local.controlplane.programs import locate  # noqa: PLC0415 -- not needed with the local API
    from localkube.controlplane.catalogue import CONTROL_PLANE  # noqa: PLC0415
    from localkube.controlplane.programs import ProgramError  # noqa: PLC0415

    try:
        return locate(CONTROL_PLANE, os.environ, report)
    except ProgramError as error:
        raise CommandError(str(error)) from error
