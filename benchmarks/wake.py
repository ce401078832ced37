"""Row 5: wake overhead = (engine's process started - request) + (first byte - engine ready), beside a bare spawn.

Each wake follows a rest of two seconds, in which the machine's load is taken, and a bare spawn of the same stub: so both sides are measured in the
same company. Measured elsewhere with random readiness: llama-swap 454 ms, KubeAI 1,883 ms, LLMKube 9,577 ms.
"""

import statistics
import sys
import time

from benchmarks import load
from benchmarks.instance import Instance, bare_spawn, instance

WAKES = 30
REST_SECONDS = 2.0
GOAL_MEDIAN, GOAL_P99 = 0.050, 0.120
PEERS = {"llama-swap": 0.454, "KubeAI": 1.883, "LLMKube": 9.577}
_ENOUGH = 10


def main() -> None:
    """Wake one Model again and again and print the overhead."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WAKES
    with instance() as running:
        running.apply("sleeper", idle="1s")
        running.until("sleeper", "condition=Ready")
        samples = [_sample(running) for _ in range(count)]
    print(load.told([busy for _, _, busy in samples]))
    quiet = [sample for sample in samples if sample[2] <= load.QUIET]
    _tell("all", samples)
    if len(quiet) >= _ENOUGH and len(quiet) < len(samples):
        _tell("undisturbed", quiet)


def _sample(running: Instance) -> tuple[float, float, float]:
    """Return the overhead of one wake, a bare spawn before it, both in seconds, and the machine's load."""
    running.until("sleeper", "jsonpath={.status.phase}=Idle")
    busy = load.rest(REST_SECONDS)
    spawn = bare_spawn(running.folder / "bare.log")
    before = len(running.stubs())
    asked = time.monotonic()
    running.ask("sleeper")
    answered = time.monotonic()
    told = dict(running.stubs(before))
    return (told["started"] - asked) + (answered - told["ready"]), spawn, busy


def _tell(which: str, samples: list[tuple[float, float, float]]) -> None:
    overheads = sorted(overhead for overhead, _, _ in samples)
    spawn = statistics.median(bare for _, bare, _ in samples)
    median = statistics.median(overheads)
    p99 = overheads[min(len(overheads) - 1, int(len(overheads) * 0.99))]
    print(f"{which} {len(samples)} wakes: bare spawn median {spawn * 1000:.0f} ms")
    print(
        f"  wake overhead: median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, least {overheads[0] * 1000:.0f} ms"
    )
    peers = ", ".join(f"1/{seconds / median:.0f} of {name}" for name, seconds in PEERS.items())
    print(f"  ratio to bare spawn {median / spawn:.1f}; {peers}")
    print(
        f"  goal: bare spawn + 50 ms median ({'met' if median <= spawn + GOAL_MEDIAN else 'missed'}), "
        f"+ 120 ms p99 ({'met' if p99 <= spawn + GOAL_P99 else 'missed'})"
    )


if __name__ == "__main__":
    main()
