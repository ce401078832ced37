"""What must be in place before the first process of an instance starts: folder, ports, credentials, control plane programs."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec

from flexinfer.cli.errors import CommandError
from flexinfer.local import instance as instances
from flexinfer.local.instance import LOCAL, Instance, InstanceError
from flexinfer.local.simulation import files
from flexinfer.local.supervisor import provisioning, record, user_settings
from flexinfer.local.supervisor.instance_programs import programs
from localkube.process_identity import alive

_PORTS = {
    "kubernetes": ("api", "node"),
    "etcd": ("etcd", "etcd_peer", "etcd_health"),
    "kube-apiserver": ("api",),
    "kube-controller-manager": ("manager",),
    "kube-scheduler": ("scheduler",),
}
"""The ports of the processes whose name is not that of their port."""


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What an instance is to be: an empty `world` and no `simulation` are those of its folder, else the local API and this machine."""

    world: str = ""
    audit: bool = False
    separate: bool = False
    simulation: Path | None = None
    """The file of `--simulate-gpus`."""
    settings: Mapping[str, str] = {}
    """The settings of the user's environment."""

    @property
    def options(self) -> tuple[str, ...]:
        """The chosen options without a value."""
        return (*(("--separate",) if self.separate else ()), *(("--audit",) if self.audit else ()))

    @property
    def words(self) -> list[str]:
        """The options of `flexinfer up` that make these choices."""
        return [
            *(["--api", self.world] if self.world else []),
            *self.options,
            *(["--simulate-gpus", str(self.simulation.absolute())] if self.simulation else []),
        ]


def check_simulation(state: Path, choices: Choices) -> None:
    """Check the file of simulated GPUs, and that the folder can have them. Raises InstanceError, CommandError."""
    if choices.simulation is None:
        return
    files.read(choices.simulation)
    if (choices.world or _world_of(state)) != LOCAL:
        raise CommandError(
            "--simulate-gpus needs the local API: leave --api out, or choose another folder with --state"
        )
    if (state / "instance.json").exists() and files.saved(instances.load(state)) is None:
        raise CommandError(f"{state} was created without simulated GPUs: choose another folder with --state")


def simulates(state: Path, choices: Choices) -> bool:
    """Return whether an instance has the nodes of the file that was chosen, or none was. Raises InstanceError."""
    if choices.simulation is None:
        return True
    simulation = files.saved(instances.load(state))
    return simulation is not None and simulation.described.nodes == files.read(choices.simulation).nodes


def differences(instance: Instance, choices: Choices, holder: int) -> list[str]:
    """Return in words what was chosen now and is otherwise in an instance that process `holder` runs; what was not chosen is as it is there.

    Raises InstanceError, SettingsError.
    """
    launch = record.read(instance.record).started_by(holder)
    different = (
        [f"--api is {instance.api}, not {choices.world}"] if choices.world not in ("", instance.api) else []
    )
    if launch is None:  # an earlier version started it, or it has only begun
        return different
    different += [f"{option} is not set" for option in choices.options if option not in launch.options]
    variables: dict[str, str] = {}
    for program in programs(instance, separate="--separate" in launch.options, settings=launch.settings):
        variables |= program.variables
    return different + user_settings.differing(choices.settings, variables)


@contextlib.contextmanager
def prepared(state: Path, choices: Choices, report: Callable[[str], None]) -> Iterator[Instance]:
    """Yield the instance with everything in place and its ports reserved. Raises InstanceError, CommandError."""
    check_simulation(state, choices)
    own_ports = frozenset(
        port
        for entry in record.read(state / "processes.json").entries
        if entry.identity is not None and alive(entry.identity)
        for port in _PORTS.get(entry.name, (entry.name,))
    )
    proxy_port = user_settings.proxy_port(choices.settings)
    with instances.opened(state, own_ports=own_ports, api=choices.world, proxy_port=proxy_port) as instance:
        provisioning.write_files(instance)
        if choices.simulation is not None:
            files.save(instance, choices.simulation)
        if instance.api != LOCAL:
            from flexinfer.local.controlplane import files as plane  # noqa: PLC0415 -- not needed with the local API

            plane.write(instance, _programs(report), audit=choices.audit)
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
