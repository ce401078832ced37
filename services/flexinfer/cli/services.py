"""`flexinfer services`: the processes of one instance, as they are at this moment."""

import argparse
import asyncio
from collections.abc import Sequence

import msgspec

from flexinfer.cli.target import instance_of, state_argument
from flexinfer.local.bus import ALL_SERVICES
from flexinfer.local.instance import Instance, lock_holder
from flexinfer.local.supervisor import record
from flexinfer.local.supervisor.plan import programs
from flexinfer.local.supervisor.process import alive
from flexinfer.local.supervisor.program import Program
from flexinfer.local.supervisor.readiness import ready

HEALTHY, NOT_READY, DOWN = "healthy", "not ready", "down"


class Row(msgspec.Struct, frozen=True):
    """One process: `pid` is None while it does not run; `health` is healthy, not ready or down."""

    name: str
    pid: int | None
    health: str
    restarts: int


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take --state and -o."""
    state_argument(parser)
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="form of the list")


def run(given: argparse.Namespace) -> int:
    """Print the list."""
    instance = instance_of(given)
    found = asyncio.run(rows(instance))
    if given.output == "json":
        print(msgspec.json.format(msgspec.json.encode(found)).decode())
        return 0
    print("\n".join(table(found)))
    if lock_holder(instance.state) is None and any(row.pid for row in found):
        print("\nNobody watches over these: `flexinfer up` does, and adopts them.")
    return 0


async def rows(instance: Instance) -> list[Row]:
    """Ask every process how it is."""
    return list(await asyncio.gather(*(_row(instance, program) for program in present(instance))))


def present(instance: Instance) -> list[Program]:
    """Return the programs of the instance in the form in which it was last started."""
    known = record.read(instance.record)
    return programs(instance, one_process=known.entry(ALL_SERVICES) is not None)


async def _row(instance: Instance, program: Program) -> Row:
    entry = record.read(instance.record).entry(program.name)
    if entry is None or entry.identity is None or not alive(entry.identity):
        return Row(program.name, None, DOWN, entry.restarts if entry else 0)
    health = HEALTHY if await ready(program.probe) else NOT_READY
    return Row(program.name, entry.identity.pid, health, entry.restarts)


def table(found: Sequence[Row]) -> list[str]:
    """Return the list as aligned lines."""
    cells = [("NAME", "PID", "HEALTH", "RESTARTS")]
    cells += [(row.name, str(row.pid or "-"), row.health, str(row.restarts)) for row in found]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
