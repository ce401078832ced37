"""Every seed is a history of people, faults and time; whatever befalls, each must keep its promises and come to rest."""

from collections.abc import Callable

import pytest

from tests.simulation.__main__ import told
from tests.simulation.history import play
from tests.simulation.loop import run
from tests.simulation.seeds import chunks, wanted


def _name(seeds: range) -> str:
    return f"{seeds[0]}-{seeds[-1]}"


@pytest.mark.parametrize("seeds", chunks(wanted()), ids=_name)
def test_every_history_keeps_its_promises(
    seeds: range, record_property: Callable[[str, object], None]
) -> None:
    """At most one holder a group, nothing lost, and rest in the right phase once faults stop."""
    outcomes = [run(play(seed)) for seed in seeds]
    bad = [outcome for outcome in outcomes if outcome.problems]
    assert not bad, "\n\n".join(["", *map(told, bad)])
    record_property("seeds", [seeds[0], seeds[-1]])
