"""`python -m tests.simulation.histories [COUNT] [--first SEED] [--jobs N]`: play many histories, and print how many, how long, and each problem.

By default 10,000 from seed 1600, which `make test` and `make seeds` leave out, on all cores: half an hour on two of them. Exit code 1 if a law was broken.
"""

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import NamedTuple

from tests.simulation.__main__ import report
from tests.simulation.history import play
from tests.simulation.loop import run

COUNT, FIRST = 10_000, 1600
_CHUNK, _EVERY_SECONDS = 10, 60.0


class Played(NamedTuple):
    """What some histories came to: how many, their virtual seconds, and a report of each that has a problem."""

    number: int
    seconds: float
    problems: list[str]


def chunk(seeds: range) -> Played:
    """Play some histories."""
    outcomes = [run(play(seed)) for seed in seeds]
    bad = [report(outcome) for outcome in outcomes if outcome.problems]
    return Played(len(outcomes), sum(outcome.seconds for outcome in outcomes), bad)


def played(seeds: range, jobs: int) -> Iterator[Played]:
    """Yield what the histories came to, in chunks, as they end."""
    with ProcessPoolExecutor(jobs, initializer=logging.disable) as pool:
        chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
        for future in as_completed([pool.submit(chunk, one) for one in chunks]):
            yield future.result()


def main(count: int, first: int, jobs: int) -> int:
    """Play and print; return 1 if a law was broken."""
    began, said, totals, bad = time.monotonic(), time.monotonic(), Counter[str](), 0
    for done in played(range(first, first + count), jobs):
        totals.update(histories=done.number, seconds=round(done.seconds))
        bad += len(done.problems)
        print(*done.problems, sep="\n\n", end="\n" if done.problems else "")
        if time.monotonic() - said > _EVERY_SECONDS:
            said = time.monotonic()
            print(
                f"{totals['histories']} of {count} after {said - began:.0f} s, {bad} with a problem",
                flush=True,
            )
    spent, hours = time.monotonic() - began, totals["seconds"] / 3600
    print(
        f"{totals['histories']} histories, seeds {first} to {first + count - 1}, of {hours:.0f} hours in all: {spent:.0f} s with {jobs} jobs"
    )
    print(f"{bad} with a problem")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("--first", type=int, default=FIRST)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    sys.exit(main(arguments.count, arguments.first, arguments.jobs))
