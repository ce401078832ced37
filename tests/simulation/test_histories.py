"""Every seed is a history of user actions and faults.

Each must keep all invariants and settle in the expected state.
"""

from collections.abc import Callable

import pytest

from tests.simulation.__main__ import report
from tests.simulation.history import play
from tests.simulation.loop import run
from tests.simulation.seeds import chunks, requested_seeds


def _name(seeds: range) -> str:
    return f"{seeds[0]}-{seeds[-1]}"


@pytest.mark.parametrize("seeds", chunks(requested_seeds()), ids=_name)
def test_every_history_keeps_the_invariants_and_settles(
    seeds: range, record_property: Callable[[str, object], None]
) -> None:
    """At most one holder for each group, no lost request, and the expected phases after the faults end (reliability G18)."""
    outcomes = [run(play(seed)) for seed in seeds]
    bad = [outcome for outcome in outcomes if outcome.problems]
    assert not bad, "\n\n".join(["", *map(report, bad)])
    record_property("seeds", [seeds[0], seeds[-1]])
