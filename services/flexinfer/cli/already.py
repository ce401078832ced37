"""What `flexinfer up` does where an instance runs or starts already: say what runs there, and with --detach wait until it is ready.

Nothing that was chosen now and differs from what runs is ignored: it is an error that names it, as is another build of FlexInfer.
"""

import asyncio
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from flexinfer.cli.errors import CommandError
from flexinfer.cli.prepare import Choices, check_simulation, differences, simulates
from flexinfer.cli.services import HEALTHY, Row, rows, table
from flexinfer.local import instance as instances
from flexinfer.local.installation import installed
from flexinfer.local.instance import Instance
from flexinfer.local.lock import lock_holder
from flexinfer.local.supervisor import record

_LOOK_SECONDS = 0.25


def already(state: Path, holder: int, choices: Choices, report: Callable[[str], None]) -> int:
    """Say what runs, and that nothing was started. Raises CommandError, InstanceError, SettingsError."""
    check_simulation(state, choices)
    if not (state / "instance.json").exists():
        raise CommandError(f"nothing was started: process {holder} is just creating FlexInfer in {state}")
    instance = instances.load(state)
    _check_same(instance, holder, choices)
    _show(instance, holder, asyncio.run(rows(instance)), report)
    raise CommandError(f"nothing was started: it is already running; `{_command('down', state)}` stops it")


def awaited(
    state: Path, holder: int, choices: Choices, report: Callable[[str], None], seconds: float
) -> Instance:
    """Return the instance that another process keeps running, once all of it is ready.

    Raises CommandError if that takes longer than `seconds`, or if that process ends. Raises InstanceError, SettingsError.
    """
    check_simulation(state, choices)
    if (state / "instance.json").exists():
        _check_same(instances.load(state), holder, choices)
    return asyncio.run(_awaited(state, holder, choices, report, seconds))


async def _awaited(
    state: Path, holder: int, choices: Choices, report: Callable[[str], None], seconds: float
) -> Instance:
    deadline, waits = time.monotonic() + seconds, False
    while True:
        instance = instances.load(state) if (state / "instance.json").exists() else None
        current = await rows(instance) if instance is not None else []
        if instance is not None and all(row.health == HEALTHY for row in current):
            _check_same(instance, holder, choices)
            _show(instance, holder, current, report)
            return instance
        if lock_holder(state) is None:
            raise CommandError(
                f"process {holder}, which was starting FlexInfer in {state}, has ended before all of it was ready: "
                f"see {state / 'logs'}, then start it again"
            )
        if time.monotonic() >= deadline:
            raise CommandError(_not_ready(state, holder, current, seconds))
        if not waits:
            report(
                f"FlexInfer in {state} is being started by process {holder}: waiting until all of it is ready"
            )
            waits = True
        await asyncio.sleep(_LOOK_SECONDS)


def _not_ready(state: Path, holder: int, current: Sequence[Row], seconds: float) -> str:
    late = [f"{row.name} is {row.health}{f' ({row.reason})' if row.reason else ''}" for row in current]
    causes = "; ".join(text for text, row in zip(late, current, strict=True) if row.health != HEALTHY)
    return (
        f"nothing was started: FlexInfer is already running in {state} (process {holder}), but not all of it was ready "
        f"within {seconds:g}s ({causes or 'it is just being created'}); see {state / 'logs'}, or stop it with `{_command('down', state)}`"
    )


def _check_same(instance: Instance, holder: int, choices: Choices) -> None:
    """Raise CommandError if what runs is not what was chosen now; what it has not recorded yet is not compared."""
    running = f"is already running in {instance.state} (process {holder})"
    if not simulates(instance.state, choices):
        raise CommandError(
            f"FlexInfer {running} with other nodes than those of {choices.simulation}: "
            f"stop it with `{_command('down', instance.state)}`, then start it with this file"
        )
    launch, own = record.read(instance.record).started_by(holder), installed()
    if launch is not None and launch.installation.build != own.build:
        raise CommandError(
            f"{launch.installation.text} {running}, and this is {own.text}: nothing was started; to replace it, "
            f"run `{_command('down', instance.state)}`, then `{_command('up', instance.state)}` again (Models and weights are kept, engines load again)"
        )
    if different := differences(instance, choices, holder):
        raise CommandError(
            f"FlexInfer {running} with other settings: {'; '.join(different)}; "
            f"stop it with `{_command('down', instance.state)}`, then start it with these"
        )


def _command(name: str, state: Path) -> str:
    """Return a command for the instance of a folder as it is typed."""
    is_default = state == instances.state_folder(None, os.environ)
    return shlex.join(["flexinfer", name, *([] if is_default else ["--state", str(state)])])


def _show(instance: Instance, holder: int, current: Sequence[Row], report: Callable[[str], None]) -> None:
    report(f"FlexInfer {installed().version} is already running in {instance.state} (process {holder}):")
    report("\n".join(table(current)))
