"""Histories of two cards on one node: the arbiter's own decisions against demand, edits, leases, games, late memory and lies of telemetry."""

import pytest

from tests.simulation.cards.history import History, play
from tests.simulation.cards.processes import Process
from tests.simulation.cards.world import BEGIN, CARDS, TOTAL_MB, World


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_no_card_is_over_committed_and_every_model_answers_at_last(first: int) -> None:
    """`make histories` plays 10,000."""
    problems = {seed: problems for seed in range(first, first + 10) if (problems := play(seed).problems)}
    assert not problems


def test_the_same_seed_is_the_same_history() -> None:
    """A problem can be looked at again."""
    assert play(3) == play(3)


def test_each_card_of_a_process_is_judged() -> None:
    """One on both cards counts on the second too."""
    world = World(1)
    world.begin(Process(cards=CARDS, mb=5_000, counted_mb=5_000, owner="a"))
    world.begin(Process(cards=CARDS[1:], mb=5_000, counted_mb=5_000, owner="b"))
    assert world.problems
    assert f"b begins on {CARDS[1]}: 10000 of {TOTAL_MB} MiB" in world.problems[0]


def test_memory_that_is_not_given_back_counts_and_a_game_that_came_after_the_sample_does_not() -> None:
    """The one is what a grant waits for, of the other no grant could know."""
    world = World(1)
    pid = world.begin(Process(cards=CARDS[:1], mb=5_000, counted_mb=5_000, owner="a"))
    world.end(pid, 5.0)
    world.begin(Process(cards=CARDS[:1], mb=2_000, counted_mb=2_000))
    world.begin(Process(cards=CARDS[:1], mb=2_500, counted_mb=2_500, owner="b", sampled_at=BEGIN - 1))
    assert not world.problems
    world.begin(Process(cards=CARDS[:1], mb=1_000, counted_mb=1_000, owner="c", sampled_at=BEGIN - 1))
    assert world.problems


def test_a_history_ends_with_what_it_came_to() -> None:
    """Grants and requests are counted, so that an empty history would show."""
    outcome = History(5).play()
    assert outcome.grants > 1
    assert outcome.served > 1
