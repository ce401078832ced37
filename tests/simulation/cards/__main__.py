"""`python -m tests.simulation.cards [COUNT] [--first SEED] [--jobs N] [--stop]`: play many histories of cards, and print how many, how long, and each problem.

By default 10,000 from seed 0 on one core; `--stop`: only up to the first problem. Exit code 1 if a law was broken.
"""

import argparse
import gc
import itertools
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.cards.history import Played, play

COUNT, _CHUNK, _EVERY_SECONDS = 10_000, 50, 60.0


def chunk(seeds: range) -> list[Played]:
    """Play some histories. Cyclic garbage is collected once for all of them: that takes a fifth of the time else."""
    gc.disable()
    outcomes = [play(seed) for seed in seeds]
    gc.enable()
    gc.collect()
    return outcomes


def played(seeds: range, jobs: int) -> Iterator[Played]:
    """Yield what the histories came to, in their order."""
    chunks = [seeds[at : at + _CHUNK] for at in range(0, len(seeds), _CHUNK)]
    if jobs == 1:
        yield from itertools.chain.from_iterable(map(chunk, chunks))
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from itertools.chain.from_iterable(pool.map(chunk, chunks))


def main(count: int, first: int, jobs: int, *, stop: bool = False) -> int:
    """Play and print; return 1 if a law was broken."""
    began = said = time.monotonic()
    number = bad = grants = served = 0
    hours = 0.0
    for one in played(range(first, first + count), jobs):
        number, bad = number + 1, bad + bool(one.problems)
        grants, served, hours = grants + one.grants, served + one.served, hours + one.seconds / 3600
        for problem in one.problems:
            print(f"seed {one.seed}: {problem}", flush=True)
        if stop and bad:
            return 1
        if time.monotonic() - said > _EVERY_SECONDS:
            said = time.monotonic()
            print(f"{number} of {count} after {said - began:.0f} s, {bad} with a problem", flush=True)
    spent = time.monotonic() - began
    print(
        f"{number} histories of cards, seeds {first} to {first + count - 1}, of {hours:.0f} hours in all, ",
        end="",
    )
    print(
        f"with {grants} grants and {served} requests answered: {spent:.0f} s with {jobs} job{'' if jobs == 1 else 's'}"
    )
    print(f"{bad} with a problem")
    return 1 if bad else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--stop", action="store_true")
    arguments = parser.parse_args()
    sys.exit(main(arguments.count, arguments.first, arguments.jobs, stop=arguments.stop))
