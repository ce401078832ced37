"""phase_of: total, and as the contract orders it, over every combination of conditions."""

import itertools

import pytest

from flexinfer.contracts import conditions, keys
from flexinfer.contracts.conditions import Condition
from flexinfer.contracts.phase import explain, phase_of

CHOICES = {
    keys.ACCEPTED: [None, ("True", "Accepted"), ("False", keys.R_INVALID_CONFIG)],
    keys.PLACED: [None, ("True", "Placed"), ("False", keys.R_NO_NODE_FITS), ("False", keys.R_NODE_GONE)],
    keys.CACHED: [None, ("True", "Cached"), ("False", keys.R_FETCHING), ("False", keys.R_SOURCE_NOT_FOUND)],
    keys.WANTED: [
        None,
        ("True", keys.R_REQUESTED),
        ("False", keys.R_IDLE),
        ("False", keys.R_DELETING),
        ("False", keys.R_FIRST_START_FAILED),
    ],
    keys.GRANTED: [None, ("True", keys.R_NOT_SHARED), ("False", keys.R_QUEUED), ("False", keys.R_PREEMPTED)],
    keys.READY: [
        None,
        ("True", keys.R_READY),
        ("False", keys.R_LOADING),
        ("False", keys.R_STOPPED),
        ("False", keys.R_DRAINING),
        ("False", keys.R_LOADING_TIMEOUT),
        ("Unknown", keys.R_NODE_UNREACHABLE),
    ],
}


def combinations() -> list[tuple[Condition, ...]]:
    """Return every combination of the choices."""
    found = []
    for row in itertools.product(*CHOICES.values()):
        said = zip(CHOICES, row, strict=True)
        found.append(
            tuple(
                Condition(type=kind, status=verdict[0], reason=verdict[1], observed_generation=1)
                for kind, verdict in said
                if verdict is not None
            )
        )
    return found


def test_every_combination_has_one_of_the_six_phases_and_a_sentence() -> None:
    """Total: no combination is without a phase."""
    for row in combinations():
        assert phase_of(row, 1) in keys.PHASES
        assert isinstance(explain(row, 1), str)


def test_the_first_match_wins() -> None:
    """Ready, Failed, Preempted, Loading, Idle, Pending: judged here by other words for the same rules."""
    for row in combinations():
        said = {c.type: c for c in row}
        ready = said.get(keys.READY)
        if ready is not None and ready.true:
            expected = keys.PHASE_READY
        elif any(c.status == "False" and c.reason in keys.FINAL_REASONS for c in row) or (
            keys.ACCEPTED in said and said[keys.ACCEPTED].status == "False"
        ):
            expected = keys.FAILED
        elif _says(said, keys.WANTED, "True") and _reason(said, keys.GRANTED) == keys.R_PREEMPTED:
            expected = keys.PREEMPTED_PHASE
        elif _reason(said, keys.READY) == keys.R_LOADING:
            expected = keys.LOADING
        elif (
            _reason(said, keys.WANTED) == keys.R_IDLE
            and _says(said, keys.PLACED, "True")
            and _says(said, keys.CACHED, "True")
            and (ready is None or ready.reason == keys.R_STOPPED)
        ):
            expected = keys.IDLE
        else:
            expected = keys.PENDING
        assert phase_of(row, 1) == expected, row


def _says(said: dict[str, Condition], kind: str, status: str) -> bool:
    return kind in said and said[kind].status == status


def _reason(said: dict[str, Condition], kind: str) -> str:
    return said[kind].reason if kind in said else ""


def test_an_older_generation_counts_as_unknown_except_for_ready() -> None:
    """An engine goes on answering whatever the spec became; a refusal of a former spec is no failure."""
    old = Condition(type=keys.ACCEPTED, status="False", reason=keys.R_INVALID_CONFIG, observed_generation=1)
    assert phase_of((old,), 2) == keys.PENDING
    ready = Condition(type=keys.READY, status="True", reason=keys.R_READY, observed_generation=1)
    assert phase_of((old, ready), 2) == keys.PHASE_READY


@pytest.mark.parametrize("reason", sorted(keys.FINAL_REASONS))
def test_a_final_reason_is_a_failure(reason: str) -> None:
    """What does not change by waiting is said to be failed."""
    said = Condition(type=keys.CACHED, status=conditions.FALSE, reason=reason, observed_generation=1)
    assert phase_of((said,), 1) == keys.FAILED


def test_the_message_names_the_first_condition_that_is_not_true() -> None:
    """A user never has to guess."""
    placed = Condition(
        type=keys.PLACED,
        status="False",
        reason=keys.R_NO_NODE_FITS,
        message="a: no GPU",
        observed_generation=1,
    )
    accepted = Condition(type=keys.ACCEPTED, status="True", reason="Accepted", observed_generation=1)
    assert explain((accepted, placed), 1) == "Placed=False (NoNodeFits): a: no GPU"
    assert "waits for Placed" in explain((accepted,), 1)
