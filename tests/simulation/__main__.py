"""`python -m tests.simulation SEED...` plays histories again, and tells each as it went."""

import sys

from tests.simulation.history import Outcome, play
from tests.simulation.loop import run


def told(outcome: Outcome) -> str:
    """Return a history for a person: what happened, what is wrong, and how to see it again."""
    problems = outcome.problems or ["nothing is wrong"]
    return "\n".join(
        [
            f"seed {outcome.seed}",
            *outcome.log,
            *(f"  {problem}" for problem in problems),
            f"play it again: python -m tests.simulation {outcome.seed}",
        ]
    )


def main() -> int:
    """Play the seeds that are named; returns 1 when one of them shows a problem."""
    bad = False
    for seed in map(int, sys.argv[1:]):
        outcome = run(play(seed))
        print(told(outcome))  # noqa: T201
        bad = bad or bool(outcome.problems)
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
