"""Prepare: what must be in place before the first process of an instance starts: folder, ports, credentials, foreign programs."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.local import instance as instances
from flexinfer.local.bus import ALL_SERVICES
from flexinfer.local.instance import LOCAL, Instance, InstanceError
from flexinfer.local.supervisor import furnish, record
from flexinfer.local.supervisor.process import alive

_PORTS = {
    ALL_SERVICES: ("proxy",),
    "etcd": ("etcd", "etcd_peer", "etcd_health"),
    "kube-apiserver": ("api",),
    "kube-controller-manager": ("manager",),
    "kube-scheduler": ("scheduler",),
}
"""The ports of the processes that are not named after theirs."""


@contextlib.contextmanager
def prepared(
    state: Path, world: str, tell: Callable[[str], None], *, audit: bool = False
) -> Iterator[Instance]:
    """Yield the instance with everything in place and its ports kept for it; an empty `world` is that of the folder, local for a new one."""
    held = frozenset(
        port
        for entry in record.read(state / "processes.json").entries
        if entry.identity is not None and alive(entry.identity)
        for port in _PORTS.get(entry.name, (entry.name,))
    )
    with instances.opened(state, held=held, world=world) as instance:
        furnish.write_files(instance)
        if instance.world != LOCAL:
            from flexinfer.local.kubernetes import files  # noqa: PLC0415 -- a local world needs none

            files.write(instance, _programs(tell), audit=audit)
        yield instance


def built(state: Path, world: str, tell: Callable[[str], None]) -> None:
    """Make sure that the foreign programs which a folder's world needs are on this machine; the first time takes minutes."""
    if (world or _world_of(state)) != LOCAL:
        _programs(tell)


def _world_of(state: Path) -> str:
    try:
        return instances.load(state).world
    except InstanceError:
        return LOCAL


def _programs(tell: Callable[[str], None]) -> Mapping[str, Path]:
    from flexinfer.local.kubernetes import catalogue, programs  # noqa: PLC0415 -- a local world needs none

    try:
        return programs.locate(catalogue.CONTROL_PLANE, os.environ, tell)
    except programs.ProgramError as error:
        raise CommandError(str(error)) from error
