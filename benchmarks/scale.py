"""What Models that are scaled to zero cost at 10, 100, 500 and 2,000: decisions, cold start, CPU, memory; a burst.

First the decisions in this process (`benchmarks.decisions`). Then a running instance with a component a process, for
each world (idle; with traffic to one of the Models; in groups of four): Models are written into the API server with
the status that the components leave, while the components are stopped; once nothing is written any more, CPU and
memory at rest are taken, then the CPU of cold starts. At last 500 Models at once: how many renewals of a Lease failed,
how many writes were refused for want of one. Ratios are to 10 Models of the same run.
"""

import asyncio
import os
import re
import statistics
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import decisions, load
from benchmarks.burst import burst, settle, versions
from benchmarks.decisions import COUNTS, WORLDS
from benchmarks.footprint import pss
from benchmarks.instance import PROCESSES, STOPPED, Instance, instance
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.runtime.kubernetes.api import MODELS
from flexinfer.runtime.kubernetes.client import connected

REST_SECONDS = 30.0
COLD_STARTS = 5
BURST = 500
_REQUEST_SECONDS = 0.5
_TICKS = os.sysconf("SC_CLK_TCK")
_AT_ONCE = 16
_LOG_LINES = {
    "renewals that failed": re.compile(r"lease \S+ not renewed"),
    "writes refused": re.compile(r"not sent: this replica is not the leader"),
}


def seed(running: Instance, first: int, last: int, world: str) -> None:
    """Create Models that are scaled to zero, while no component runs."""
    running.end_services()
    asyncio.run(_seed(running, first, last, world))
    running.start_services()
    _until_healthy(running)
    settle(running)


async def _seed(running: Instance, first: int, last: int, world: str) -> None:
    limit = asyncio.Semaphore(_AT_ONCE)
    async with connected(running.environment["KUBECONFIG"]) as cluster:

        async def create(number: int) -> None:
            body = _body(number, world)
            async with limit:
                await cluster.create(MODELS, "default", {k: v for k, v in body.items() if k != "status"})
                await cluster.apply(MODELS, "default", body, manager="seed", subresource="status")

        await asyncio.gather(*(create(number) for number in range(first, last)))


def _body(number: int, world: str) -> dict[str, Any]:
    model: dict[str, Any] = msgspec.to_builtins(decisions.model(number, world))
    name = model["metadata"]["name"]
    for condition in model["status"]["conditions"]:
        condition["lastTransitionTime"] = "2026-01-01T00:00:00Z"
    model["status"]["placement"]["node"] = "local"
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name},
        "spec": model["spec"],
        "status": {key: value for key, value in model["status"].items() if value},
    }


def _until_healthy(running: Instance) -> None:
    deadline = time.monotonic() + 120
    while not all(s["health"] == "healthy" for s in running.services() if s["name"] in PROCESSES):
        if time.monotonic() > deadline:
            raise SystemExit("the components are not healthy within 120 s")
        time.sleep(0.5)


def pids(running: Instance) -> dict[str, int]:
    """Return the pid of each process of the instance."""
    return {row["name"]: int(row["pid"]) for row in running.services() if row["pid"]}


def cpu(processes: Mapping[str, int]) -> dict[str, float]:
    """Return the CPU seconds that each process has used."""

    def used(pid: int) -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    return {name: used(pid) for name, pid in processes.items()}


def at_rest(running: Instance) -> tuple[dict[str, float], dict[str, float], int]:
    """Return milli-cores and MiB of each process over a rest, and how many objects were written meanwhile."""
    processes, written = pids(running), versions(running)
    before, began = cpu(processes), time.monotonic()
    time.sleep(REST_SECONDS)
    seconds, after = time.monotonic() - began, cpu(processes)
    milli = {name: 1000 * (after[name] - before[name]) / seconds for name in processes}
    return milli, {name: pss(pid) for name, pid in processes.items()}, len(versions(running) ^ written)


def cold_start(running: Instance) -> float:
    """Return the median CPU seconds of all processes for a cold start and the stop after it."""
    samples = []
    for _ in range(COLD_STARTS):
        running.until("one", STOPPED)
        load.rest(1.0)
        processes = pids(running)
        before = cpu(processes)
        running.ask("one")
        running.until("one", STOPPED)
        after = cpu(processes)
        samples.append(sum(after.values()) - sum(before.values()))
    return statistics.median(samples)


@contextmanager
def traffic(running: Instance, world: str) -> Iterator[None]:
    """Send requests to one ready Model for the duration of the block, in the world with traffic."""
    if world != "traffic":
        yield
        return
    running.apply("busy")
    running.until("busy", "condition=Ready")
    ended = threading.Event()

    def ask() -> None:
        while not ended.wait(_REQUEST_SECONDS):
            running.ask("busy")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def measure(world: str, counts: tuple[int, ...]) -> None:
    """Print what so many Models cost in one instance that grows."""
    rows, first = [], 0
    with instance("--separate") as running:
        running.apply("one", idle="1s")
        running.until("one", "condition=Ready")
        for count in counts:
            seed(running, first, count, world)
            first = count
            with traffic(running, world):
                milli, memory, written = at_rest(running)
            rows.append((count, sum(milli.values()), sum(memory.values()), written, cold_start(running)))
            _print_row(world, rows, milli, memory)


def _print_row(
    world: str,
    rows: list[tuple[int, float, float, int, float]],
    milli: Mapping[str, float],
    memory: Mapping[str, float],
) -> None:
    (_, first_milli, first_memory, _, first_start), row = rows[0], rows[-1]
    count, cores, mib, written, start = row
    print(
        f"{world}, {count} Models: {cores:.0f} milli-cores (x{cores / first_milli:.1f}), {mib:.0f} MiB PSS "
        f"(x{mib / first_memory:.1f}), {written} objects written in {REST_SECONDS:.0f} s; "
        f"CPU of a cold start {start:.2f} s (x{start / first_start:.1f})"
    )
    print("  " + ", ".join(f"{name} {milli[name]:.1f}/{memory[name]:.0f}" for name in milli), flush=True)


def burst_of(count: int) -> None:
    """Print what Models that are applied at once cost."""
    with instance("--separate") as running:
        before = sum(cpu(pids(running)).values())
        seconds = burst(running, count)
        settle(running)
        used = sum(cpu(pids(running)).values()) - before
        logs = [
            path.read_text(errors="replace") for path in (running.folder / "state" / "logs").glob("*.log")
        ]
    found = {what: sum(len(line.findall(log)) for log in logs) for what, line in _LOG_LINES.items()}
    told = ", ".join(f"{number} {what}" for what, number in found.items())
    print(f"burst of {count} Models: all conditions after {seconds:.1f} s, {used:.1f} s of CPU; {told}")


def main() -> None:
    """Print everything; the counts of Models may be given."""
    counts = tuple(int(argument) for argument in sys.argv[1:]) or COUNTS
    decisions.main()
    for world in WORLDS:
        measure(world, counts)
    burst_of(BURST)


if __name__ == "__main__":
    main()
