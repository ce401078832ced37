"""`python -m tests.mutants.drawn [--seed N] [--count N] [--jobs N]`: mutants of the deciding modules, drawn by a seed.

cosmic-ray finds where its operators apply in the pure modules of the components that decide, and makes the mutants. A draw
takes places first and then one operator of each, so that a comparison, which has many operators, is not drawn more often. It ranks
places by a digest of their line, so that a change elsewhere leaves it, and the list of survivors, as they are. Each mutant is tried on the unit tests of its component, then on the first histories of the simulation. The survivors must be those of
survivors.md, each with the reason why no test can or need notice it; else the exit code is 1.
"""

import argparse
import difflib
import hashlib
import random
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

from tests.mutants.survivors import SURVIVORS, differences, listed
from tests.mutants.trial import JOBS, ROOT, Verdict, copy_of_the_tree, pool, run_tests, simulate

SEED, COUNT, SEEDS = 14, 60, 100
_UNION = "core/ReplaceBinaryOperator_BitOr_"
"""Left out: nearly all of them change an annotation, which fails at the import."""


class Mutant(NamedTuple):
    """A module in which an operator is applied once."""

    component: str
    module: str
    operator: str
    occurrence: int

    @property
    def path(self) -> Path:
        """The module's path in a tree."""
        return Path("services/flexinfer", self.component, f"{self.module}.py")

    def code(self, source: str) -> str:
        """Return the changed module."""
        return str(mutate_code(source, get_operator(self.operator)(), self.occurrence))

    def __str__(self) -> str:
        """What changed, as survivors.md has it: the lines before and after, without their numbers."""
        source = (ROOT / self.path).read_text()
        lines = [*difflib.ndiff(source.splitlines(), self.code(source).splitlines())]
        before, after = (_joined(line[2:] for line in lines if line[:2] == sign) for sign in ("- ", "+ "))
        return f"{self.component}/{self.module}: `{before}` -> `{after}`"


def _joined(lines: Iterable[str]) -> str:
    return " ".join(" ".join(lines).split())


def modules() -> Iterator[tuple[str, str]]:
    """Yield component and name of the pure modules of the components that have a decide.py."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    pure = next(c["source_modules"] for c in contracts if "pure" in c["name"])
    for name in pure:
        _, component, *module = name.split(".")
        if module and (ROOT / "services/flexinfer" / component / "decide.py").exists():
            yield component, module[0]


def places(component: str, module: str) -> Iterator[tuple[str, Mutant]]:
    """Yield where the operators apply in a module, by the text of the line and the columns.

    Left out: the options of a struct, which are not observed, and the mark of keyword arguments, which is not an operator.
    """
    source = (ROOT / "services/flexinfer" / component / f"{module}.py").read_text()
    tree, lines = get_ast(source), source.splitlines()
    for name in sorted(operator_names()):
        if get_operator(name).arguments() or name.startswith(_UNION):
            continue
        operator = get_operator(name)()
        positions = (position for node in ast_nodes(tree) for position in operator.mutation_positions(node))
        for occurrence, ((line, first), (_, last)) in enumerate(positions):
            text = lines[line - 1]
            if not text.startswith("class ") and not text[first:].startswith("*,"):
                yield (
                    f"{component}/{module} {first}-{last} {text}",
                    Mutant(component, module, name, occurrence),
                )


def draw(seed: int, count: int) -> Sequence[Mutant]:
    """Return mutants at so many places; those of a line that has not changed are the same whatever changes elsewhere."""
    by_place: dict[str, list[Mutant]] = {}
    for component, module in modules():
        for place, mutant in places(component, module):
            by_place.setdefault(place, []).append(mutant)
    ranked = sorted(by_place, key=lambda place: _digest(seed, place))[:count]
    return [random.Random(_digest(seed, place)).choice(by_place[place]) for place in ranked]


def _digest(seed: int, place: str) -> bytes:
    return hashlib.sha256(f"{seed} {place}".encode()).digest()


class Trial(NamedTuple):
    """What noticed a mutant."""

    mutant: Mutant
    unit: Verdict
    simulation: Verdict | None

    @property
    def survives(self) -> bool:
        """Whether nothing noticed it; a module that cannot be imported is noticed."""
        return not {self.unit, self.simulation} & {Verdict.CAUGHT, Verdict.BROKEN}

    def __str__(self) -> str:
        return f"{self.unit!s:<13} {self.simulation or '-'!s:<13} {self.mutant}"


def attempt(mutant: Mutant) -> Trial:
    """Try a mutant on the unit tests and, if they do not notice it, on the simulation."""
    with copy_of_the_tree() as tree:
        path = tree / mutant.path
        path.write_text(mutant.code(path.read_text()))
        unit = run_tests(tree, [f"tests/unit/{mutant.component}"])
        missed = unit in (Verdict.MISSED, Verdict.ENDLESS)
        return Trial(mutant, unit, simulate(tree, SEEDS) if missed else None)


def main() -> int:
    """Draw, try, print, and compare the survivors with the list."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--jobs", type=int, default=JOBS)
    arguments = parser.parse_args()
    survivors = set()
    print(f"{'unit tests':<13} {'simulation':<13}")
    with pool(arguments.jobs) as workers:
        for trial in workers.map(attempt, draw(arguments.seed, arguments.count)):
            print(trial, flush=True)
            survivors |= {str(trial.mutant)} if trial.survives else set()
    print(f"{arguments.count} mutants, {len(survivors)} survive")
    wrong = [*differences(survivors, listed(SURVIVORS.read_text()))]
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
