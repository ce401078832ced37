"""`flexinfer services`: the processes of one instance and their health."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec

from flexinfer.cli.target import instance_of, state_argument
from flexinfer.cli.terminal import print_json
from flexinfer.events.permissions import CONTROLLERS
from flexinfer.local.instance import Instance
from flexinfer.local.lock import lock_holder
from flexinfer.local.supervisor import record
from flexinfer.local.supervisor.instance_programs import programs
from flexinfer.local.supervisor.program import Program
from flexinfer.local.supervisor.readiness import ready, reason
from localkube import files
from localkube.process_identity import alive

HEALTHY, NOT_READY, DOWN = "healthy", "not ready", "down"


class Row(msgspec.Struct, frozen=True):
    """One process: `pid` is None while it does not run; `health` is healthy, not ready or down.

    `reason` is what a process that is not ready says of why.
    """

    name: str
    pid: int | None
    health: str
    restarts: int
    reason: str = ""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --state and -o."""
    state_argument(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="output format")


def run(options: argparse.Namespace) -> int:
    """Print the list; returns 1 unless every process is healthy and the state folder can be written."""
    instance = instance_of(options)
    current = asyncio.run(rows(instance))
    full = files.problem(instance.state)
    if full:
        sys.stderr.write(
            f"nothing can be written into {instance.state}: {full}; processes keep running, and changes are rejected: free space on that disk\n"
        )
    status = 0 if not full and all(row.health == HEALTHY for row in current) else 1
    if options.output == "json":
        print_json(current)
        return status
    print("\n".join(table(current)))
    if lock_holder(instance.state) is None and any(row.pid for row in current):
        print("\nThese run without a supervisor; `flexinfer up` adopts them and restarts what exits.")
    return status


async def rows(instance: Instance) -> list[Row]:
    """Return the health of every process."""
    return list(await asyncio.gather(*(_row(instance, program) for program in present(instance))))


def present(instance: Instance) -> list[Program]:
    """Return the programs of the instance as it was last started: together or --separate."""
    last = record.read(instance.record)
    separate = bool(last.entries) and last.entry(CONTROLLERS) is None
    return programs(instance, separate=separate)


async def _row(instance: Instance, program: Program) -> Row:
    entry = record.read(instance.record).entry(program.name)
    if entry is None or entry.identity is None or not alive(entry.identity):
        return Row(program.name, None, DOWN, entry.restarts if entry else 0)
    if await ready(program.probe):
        return Row(program.name, entry.identity.pid, HEALTHY, entry.restarts)
    return Row(program.name, entry.identity.pid, NOT_READY, entry.restarts, await reason(program.probe))


def table(current: Sequence[Row]) -> list[str]:
    """Return the list as aligned lines, and below it what each process that is not ready says of why."""
    cells = [("NAME", "PID", "HEALTH", "RESTARTS")]
    cells += [(row.name, str(row.pid or "-"), row.health, str(row.restarts)) for row in current]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    reasons = [f"{row.name} is not ready: {row.reason}" for row in current if row.reason]
    return [*lines, "", *reasons] if reasons else lines
