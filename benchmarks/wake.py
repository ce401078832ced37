"""Row 5: wake overhead = (engine's process started - request) + (first byte - engine ready), beside a bare spawn."""

import statistics
import sys
import time

from benchmarks.instance import bare_spawns, instance

WAKES = 30
GOAL_MEDIAN, GOAL_P99 = 0.050, 0.120


def main() -> None:
    """Wake one Model again and again, 2 s apart, and print the overhead."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WAKES
    with instance() as running:
        running.apply("sleeper", idle="1s")
        running.until("sleeper", "condition=Ready")
        overheads = []
        for _ in range(count):
            running.until("sleeper", "jsonpath={.status.phase}=Idle")
            time.sleep(2)
            before = len(running.stubs())
            asked = time.monotonic()
            running.ask("sleeper")
            answered = time.monotonic()
            told = dict(running.stubs(before))
            overheads.append((told["started"] - asked) + (answered - told["ready"]))
        bare = bare_spawns(10, running.folder / "bare.log")
    spawn = statistics.median(bare)
    median = statistics.median(overheads)
    p99 = sorted(overheads)[min(len(overheads) - 1, int(len(overheads) * 0.99))]
    print(f"bare spawn: median {spawn * 1000:.0f} ms")
    print(f"wake overhead, {count} wakes: median {median * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms")
    print(f"ratio to bare spawn: {median / spawn:.1f}")
    print(
        f"goal: bare spawn + 50 ms median ({'met' if median <= spawn + GOAL_MEDIAN else 'missed'}), "
        f"+ 120 ms p99 ({'met' if p99 <= spawn + GOAL_P99 else 'missed'})"
    )


if __name__ == "__main__":
    main()
