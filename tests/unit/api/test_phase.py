"""phase_of: total, and as the contract orders it, over every combination of conditions."""

import itertools

import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.phase import Phase, explain, phase_of
from flexinfer.api.reasons import Reason

CHOICES = {
    conditions.ACCEPTED: [None, ("True", "Accepted"), ("False", Reason.INVALID_CONFIG)],
    conditions.PLACED: [
        None,
        ("True", "Placed"),
        ("False", Reason.NO_NODE_FITS),
        ("False", Reason.NODE_GONE),
    ],
    conditions.CACHED: [
        None,
        ("True", "Cached"),
        ("False", Reason.FETCHING),
        ("False", Reason.SOURCE_NOT_FOUND),
    ],
    conditions.WANTED: [
        None,
        ("True", Reason.REQUESTED),
        ("False", Reason.IDLE),
        ("False", Reason.DELETING),
        ("False", Reason.FIRST_START_FAILED),
    ],
    conditions.GRANTED: [
        None,
        ("True", Reason.NOT_SHARED),
        ("False", Reason.QUEUED),
        ("False", Reason.PREEMPTED),
    ],
    conditions.READY: [
        None,
        ("True", Reason.READY),
        ("False", Reason.LOADING),
        ("False", Reason.STOPPED),
        ("False", Reason.DRAINING),
        ("False", Reason.LOADING_TIMEOUT),
        ("Unknown", Reason.NODE_UNREACHABLE),
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
        assert phase_of(row, 1) in tuple(Phase)
        assert isinstance(explain(row, 1), str)


def test_the_first_match_wins() -> None:
    """Ready, Failed, Preempted, Loading, Idle, Pending: judged here by other words for the same rules."""
    for row in combinations():
        said = {c.type: c for c in row}
        ready = said.get(conditions.READY)
        if ready is not None and ready.true:
            expected = Phase.READY
        elif any(c.status == "False" and c.reason in reasons.FINAL_REASONS for c in row) or (
            conditions.ACCEPTED in said and said[conditions.ACCEPTED].status == "False"
        ):
            expected = Phase.FAILED
        elif _says(said, conditions.WANTED, "True") and _reason(said, conditions.GRANTED) == Reason.PREEMPTED:
            expected = Phase.PREEMPTED
        elif _reason(said, conditions.READY) == Reason.LOADING:
            expected = Phase.LOADING
        elif (
            _reason(said, conditions.WANTED) == Reason.IDLE
            and _says(said, conditions.PLACED, "True")
            and _says(said, conditions.CACHED, "True")
            and (ready is None or ready.reason == Reason.STOPPED)
        ):
            expected = Phase.IDLE
        else:
            expected = Phase.PENDING
        assert phase_of(row, 1) == expected, row


def _says(said: dict[str, Condition], kind: str, status: str) -> bool:
    return kind in said and said[kind].status == status


def _reason(said: dict[str, Condition], kind: str) -> str:
    return said[kind].reason if kind in said else ""


def test_an_older_generation_counts_as_unknown_except_for_ready() -> None:
    """An engine goes on answering whatever the spec became; a refusal of a former spec is no failure."""
    old = Condition(
        type=conditions.ACCEPTED, status="False", reason=Reason.INVALID_CONFIG, observed_generation=1
    )
    assert phase_of((old,), 2) == Phase.PENDING
    ready = Condition(type=conditions.READY, status="True", reason=Reason.READY, observed_generation=1)
    assert phase_of((old, ready), 2) == Phase.READY


@pytest.mark.parametrize("reason", sorted(reasons.FINAL_REASONS))
def test_a_final_reason_is_a_failure(reason: str) -> None:
    """What does not change by waiting is said to be failed."""
    said = Condition(type=conditions.CACHED, status=conditions.FALSE, reason=reason, observed_generation=1)
    assert phase_of((said,), 1) == Phase.FAILED


def test_the_message_names_the_first_condition_that_is_not_true() -> None:
    """A user never has to guess."""
    placed = Condition(
        type=conditions.PLACED,
        status="False",
        reason=Reason.NO_NODE_FITS,
        message="a: no GPU",
        observed_generation=1,
    )
    accepted = Condition(type=conditions.ACCEPTED, status="True", reason="Accepted", observed_generation=1)
    assert explain((accepted, placed), 1) == "Placed=False (NoNodeFits): a: no GPU"
    assert "waits for Placed" in explain((accepted,), 1)
