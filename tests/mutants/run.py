"""`python -m tests.mutants.run [--seeds N] [--cards N] [--jobs N] [NAME...]`: plant each fault in a copy of the tree, and see which tests notice.

A fault of the budget, `b*`, is tried on the histories of cards, and both these and the unit tests must notice it; what they say is printed. Any
other is tried on the whole simulation. Exit code 1 if a fault of the budget is missed by one of its two, or another by both; 2 if a
patch does not apply.
"""

import argparse
import functools
import sys
import time
from typing import NamedTuple

from tests.mutants.patches import Patch, PatchError, apply, patches
from tests.mutants.trial import JOBS, Verdict, copy_of_the_tree, play_cards, pool, run_tests, simulate

SEEDS = 300
"""How many histories are played with each fault."""
CARDS = 1000
"""How many histories of cards are played with each fault of the budget."""


class Outcome(NamedTuple):
    """What noticed a planted fault."""

    patch: Patch
    simulation: Verdict
    unit: Verdict
    seconds: float
    noticed: str = ""

    @property
    def caught(self) -> bool:
        """Whether anything noticed it, and of a fault of the budget all."""
        verdicts = (self.simulation, self.unit)
        return {*verdicts} == {Verdict.CAUGHT} if is_of_budget(self.patch) else Verdict.CAUGHT in verdicts

    def __str__(self) -> str:
        return f"{self.patch.name:<32} {self.simulation!s:<13} {self.unit!s:<13} {self.seconds:6.0f} s  {self.patch.plants}{self.noticed and f': {self.noticed}'}"


def is_of_budget(patch: Patch) -> bool:
    """Return whether a fault is one of the budget of a card."""
    return patch.name.startswith("b")


def plant(patch: Patch, seeds: int, cards: int) -> Outcome:
    """Try one planted fault. Raises PatchError if it does not apply."""
    began = time.monotonic()
    with copy_of_the_tree() as tree:
        apply(patch, tree)
        unit = run_tests(tree, patch.tests)
        simulation, noticed = play_cards(tree, cards) if is_of_budget(patch) else (simulate(tree, seeds), "")
    return Outcome(patch, simulation, unit, time.monotonic() - began, noticed)


def main(names: list[str], seeds: int, cards: int, jobs: int) -> int:
    """Try the named patches, by default all, and print a table."""
    try:
        planted = patches(names)
        with pool(jobs) as workers:
            print(f"{'':<32} {'simulation':<13} {'unit tests':<13}")
            outcomes = []
            for outcome in workers.map(functools.partial(plant, seeds=seeds, cards=cards), planted):
                outcomes.append(outcome)
                print(outcome, flush=True)
    except PatchError as error:
        print(error, file=sys.stderr)
        return 2
    by_simulation = sum(outcome.simulation is Verdict.CAUGHT for outcome in outcomes)
    missed = [outcome.patch.name for outcome in outcomes if not outcome.caught]
    print(f"{len(outcomes)} planted: {by_simulation} caught by their histories alone, {len(missed)} missed")
    print(*(f"missed: {name}" for name in missed), sep="\n")
    return 1 if missed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--cards", type=int, default=CARDS)
    parser.add_argument("--jobs", type=int, default=JOBS)
    arguments = parser.parse_args()
    sys.exit(main(arguments.names, arguments.seeds, arguments.cards, arguments.jobs))
