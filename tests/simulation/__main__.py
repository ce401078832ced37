"""`python -m tests.simulation SEED...` replays histories and prints what happened in each."""

import sys

from tests.simulation.history import Outcome, play
from tests.simulation.loop import run


def report(outcome: Outcome) -> str:
    """Return a readable report of a history: its log, its problems, and how to replay it."""
    problems = outcome.problems or ["no problems"]
    return "\n".join(
        [
            f"seed {outcome.seed}",
            *outcome.log,
            *(f"  {problem}" for problem in problems),
            f"replay it: python -m tests.simulation {outcome.seed}",
        ]
    )


def main() -> int:
    """Replay the seeds of the command line; return 1 if one of them has a problem."""
    bad = False
    for seed in map(int, sys.argv[1:]):
        outcome = run(play(seed))
        print(report(outcome))  # noqa: T201
        bad = bad or bool(outcome.problems)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
