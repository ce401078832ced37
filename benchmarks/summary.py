"""How long a Model's phase, reason and message differ from what its conditions say, in the versions that `kubectl get -w` shows.

Each version that kubectl prints is judged by the same functions that the watcher decides by. Five Models are created at once, scaled to zero,
and started again by a request each; cold starts are measured as in `cold_start`, since each write in a start is a cost of it.
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import msgspec

from benchmarks.instance import BIN, STOPPED, Instance, instance
from flexinfer.api.model import Model
from flexinfer.api.phase import explain, phase_of
from tests.simulation.laws.summary import summaries

MODELS = tuple("abcde")
ROUNDS = 3


class Version(NamedTuple):
    """One version of a Model, and when kubectl printed it."""

    at: float
    model: Model

    @property
    def contradicts(self) -> str:
        """What the status says and what its conditions say, where it is not so; empty where a condition, or the lack of one, says the same."""
        status, generation = self.model.status, self.model.metadata.generation
        written = status.conditions
        phase = phase_of(written, generation)
        if status.phase == phase and (status.reason, status.message) in summaries(written, generation):
            return ""
        return f"{status.phase}: {status.message} where the conditions say {phase}: {explain(written, generation)}"


def read(stream: IO[str], versions: list[Version]) -> None:
    """Read the objects that `kubectl get --watch -o json` prints, one after the other."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.rstrip("\n") == "}":
            body: Any = json.loads("".join(lines))
            versions.append(Version(time.monotonic(), msgspec.convert(body, Model)))
            lines = []


def spans(versions: list[Version]) -> Iterator[tuple[float, str]]:
    """Yield for how long each Model's summary was not what its conditions said, and the first contradiction of that time."""
    began: dict[str, tuple[float, str]] = {}
    for version in versions:
        key, wrong = version.model.key, version.contradicts
        if wrong and version.model.status.phase:
            began.setdefault(key, (version.at, wrong))
        elif key in began:
            at, first = began.pop(key)
            yield version.at - at, first


def _starts(running: Instance, rounds: int) -> list[float]:
    """Create the Models, and start each by a request `rounds` times; returns the overhead of those starts as `cold_start` has it."""
    running.apply(*MODELS, idle="1s")
    overheads = []
    for _ in range(rounds):
        for name in MODELS:
            running.until(name, STOPPED)
        for name in MODELS:
            before = len(running.stubs())
            requested = time.monotonic()
            running.ask(name)
            answered = time.monotonic()
            times = dict(running.stubs(before))
            overheads.append(times["started"] - requested + answered - times["ready"])
    for name in MODELS:
        running.until(name, STOPPED)
    return overheads


def measure(api: str, rounds: int) -> None:
    """Print the contradictions on one Kubernetes API, how long they were there, and what a cold start took."""
    versions: list[Version] = []
    with instance("--api", api) as running:
        command = [str(BIN / "kubectl"), "get", "mdl", "-A", "--watch", "-o", "json"]
        watch = subprocess.Popen(command, env=running.environment, stdout=subprocess.PIPE, text=True)
        assert watch.stdout is not None
        reader = threading.Thread(target=read, args=(watch.stdout, versions))
        reader.start()
        try:
            overheads = _starts(running, rounds)
        finally:
            watch.terminate()
            watch.wait()
            reader.join()
    said = [version for version in versions if version.model.status.phase]
    wrong = sum(1 for version in said if version.contradicts)
    lasting = sorted(spans(versions), reverse=True)
    milliseconds = [1000 * seconds for seconds, _ in lasting]
    print(f"{api} API: {len(said)} versions, {wrong} whose message is not what the conditions say")
    if lasting:
        print(
            f"  each time for {statistics.median(milliseconds):.0f} ms (median), {milliseconds[0]:.0f} ms at most:"
        )
        for seconds, first in lasting[:3]:
            print(f"  {1000 * seconds:.0f} ms: {first}")
    starts = sorted(1000 * seconds for seconds in overheads)
    print(
        f"  cold start overhead of {len(starts)}: median {statistics.median(starts):.0f} ms, worst {starts[-1]:.0f} ms"
    )


def main() -> None:
    """Measure on the local API, and on a real one with the argument `real`."""
    for api in sys.argv[1:] or ("local",):
        measure(api, ROUNDS)


if __name__ == "__main__":
    main()
