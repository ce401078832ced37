"""phase_of: a total function, in the order of the contract, over every combination of conditions."""

import itertools

import msgspec
import pytest

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.phase import Phase, cause_of, explain, phase_of
from flexinfer.api.reasons import Reason
from tests.builders import a_condition

STOPS = (Reason.DRAINING, Reason.STOPPING)
CHOICES: dict[str, list[tuple[str, str] | None]] = {
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
        ("False", Reason.STOPPING),
        ("False", Reason.LOADING_TIMEOUT),
        ("Unknown", Reason.NODE_UNREACHABLE),
    ],
}


def combinations() -> list[tuple[Condition, ...]]:
    """Return every combination of the choices."""
    return [
        tuple(
            Condition(type=kind, status=choice[0], reason=choice[1], observed_generation=1)
            for kind, choice in zip(CHOICES, row, strict=True)
            if choice is not None
        )
        for row in itertools.product(*CHOICES.values())
    ]


def test_every_combination_has_one_of_the_phases_and_a_message() -> None:
    """Total: no combination is without a phase."""
    for row in combinations():
        assert phase_of(row, 1) in tuple(Phase)
        assert isinstance(explain(row, 1), str)


def test_the_first_match_wins() -> None:
    """Ready, Failed, Preempted, Loading, Idle, Pending: the same rules, stated independently."""
    for row in combinations():
        by_type = {c.type: c for c in row}
        ready = by_type.get(conditions.READY)
        wanted = _is(by_type, conditions.WANTED, "True")
        if ready is not None and ready.true:
            expected = Phase.READY
        elif any(c.status == "False" and c.reason in reasons.FINAL for c in row) or _is(
            by_type, conditions.ACCEPTED, "False"
        ):
            expected = Phase.FAILED
        elif wanted and _reason(by_type, conditions.GRANTED) == Reason.PREEMPTED:
            expected = Phase.PREEMPTED
        elif _reason(by_type, conditions.READY) in reasons.LOADING or (
            _reason(by_type, conditions.READY) in STOPS and wanted
        ):
            expected = Phase.LOADING
        elif (
            _is(by_type, conditions.WANTED, "False")
            and _reason(by_type, conditions.WANTED) != Reason.DELETING
            and _is(by_type, conditions.PLACED, "True")
            and _is(by_type, conditions.CACHED, "True")
            and (ready is None or (ready.status == "False" and ready.reason in {*reasons.AT_REST, *STOPS}))
        ):
            expected = Phase.IDLE
        else:
            expected = Phase.PENDING
        assert phase_of(row, 1) == expected, row


def test_a_wanted_model_that_had_to_leave_its_devices_is_preempted() -> None:
    """While it drains, and until it is in demand again or no longer wanted."""
    left = [a_condition(kind) for kind in ("Accepted", "Placed", "Cached")]
    left.append(a_condition("Granted", "False", Reason.PREEMPTED))
    for ready in (Reason.DRAINING, Reason.STOPPED):
        stopping = a_condition("Ready", "False", ready)
        assert phase_of([*left, a_condition("Wanted"), stopping], 1) == Phase.PREEMPTED
        assert phase_of([*left, a_condition("Wanted", "False", Reason.IDLE), stopping], 1) == Phase.IDLE


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize(
    "granted",
    [
        ("Granted", "True", Reason.GRANTED),
        ("Granted", "False", Reason.RELEASED),
        ("Granted", "False", Reason.LEAVING_GROUP),
        ("Granted", "False", Reason.BLOCKED),
    ],
    ids=["another template", "another device", "another group", "its group is blocked"],
)
def test_an_engine_that_is_stopped_is_loading_if_it_starts_again_and_else_idle(
    granted: tuple[str, str, str], stop: Reason
) -> None:
    """Never Pending: nothing is waited for but the end of the stop."""
    placed = [a_condition(kind) for kind in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED)]
    stopping = a_condition(conditions.READY, "False", stop)
    restart = (*placed, a_condition(conditions.WANTED), a_condition(*granted), stopping)
    rest = (*placed, a_condition(conditions.WANTED, "False", Reason.IDLE), a_condition(*granted), stopping)
    assert phase_of(restart, 1) == Phase.LOADING
    assert phase_of(rest, 1) == Phase.IDLE


def _is(by_type: dict[str, Condition], kind: str, status: str) -> bool:
    return kind in by_type and by_type[kind].status == status


def _reason(by_type: dict[str, Condition], kind: str) -> str:
    return by_type[kind].reason if kind in by_type else ""


def test_an_older_generation_counts_as_unknown_except_for_ready() -> None:
    """A running engine keeps serving after a change of the spec; a refusal of an older spec is no failure."""
    old = Condition(
        type=conditions.ACCEPTED, status="False", reason=Reason.INVALID_CONFIG, observed_generation=1
    )
    assert phase_of((old,), 2) == Phase.PENDING
    ready = Condition(type=conditions.READY, status="True", reason=Reason.READY, observed_generation=1)
    assert phase_of((old, ready), 2) == Phase.READY


@pytest.mark.parametrize("reason", sorted(reasons.FINAL))
def test_a_final_reason_is_a_failure(reason: str) -> None:
    """Waiting does not change it."""
    condition = Condition(
        type=conditions.CACHED, status=conditions.FALSE, reason=reason, observed_generation=1
    )
    assert phase_of((condition,), 1) == Phase.FAILED


def test_the_message_names_the_first_condition_that_is_not_true() -> None:
    """Users need to look at one condition only."""
    placed = Condition(
        type=conditions.PLACED,
        status="False",
        reason=Reason.NO_NODE_FITS,
        message="a: no GPU",
        observed_generation=1,
    )
    accepted = Condition(type=conditions.ACCEPTED, status="True", reason="Accepted", observed_generation=1)
    assert explain((accepted, placed), 1) == "Placed=False (NoNodeFits): a: no GPU"
    assert "waiting for Placed" in explain((accepted,), 1)


def test_a_failed_start_is_explained_by_its_cause() -> None:
    """Wanted says that the start is over, Ready why: the message beside the phase has the cause."""
    cause = a_condition(conditions.READY, "False", Reason.LOADING_TIMEOUT)
    cause = msgspec.structs.replace(cause, message="exit code 1: no such file")
    failed = [
        a_condition(conditions.ACCEPTED, "True", "Accepted"),
        a_condition(conditions.PLACED, "True", "Placed"),
        a_condition(conditions.CACHED, "True", "Cached"),
        a_condition(conditions.WANTED, "False", Reason.FIRST_START_FAILED),
        a_condition(conditions.GRANTED, "True", Reason.NOT_SHARED),
        cause,
    ]
    assert explain(failed, 1) == "Ready=False (LoadingTimeout): exit code 1: no such file"


def test_a_deletion_is_explained_by_the_stop_of_its_engine_and_never_by_an_older_generation() -> None:
    """A deletion raises the generation, which no condition but Wanted and Ready follows."""
    placed = a_condition(conditions.PLACED)
    wanted = a_condition(conditions.WANTED, "False", Reason.DELETING, generation=2)
    ready = a_condition(conditions.READY, "False", Reason.DRAINING, generation=2)
    assert explain((placed, wanted, ready), 2) == "Ready=False (Draining)"
    assert explain((placed, wanted), 2) == "Wanted=False (Deleting)"


def test_a_failed_model_is_explained_by_its_failure_and_not_by_what_waits() -> None:
    """Whatever the order in which the conditions were written, and whatever else is not True yet."""
    for row in combinations():
        cause = cause_of(tuple(reversed(row)), 1)
        assert cause == cause_of(row, 1)
        deleting = any(c.reason == Reason.DELETING for c in row)
        if phase_of(row, 1) == Phase.FAILED and not deleting:
            assert cause.condition is not None
            assert not cause.condition.true
            assert cause.reason in reasons.FINAL | reasons.WARNING


@pytest.mark.parametrize("rest", [Reason.NOT_STARTED, Reason.STOPPED, Reason.DRAINING])
def test_a_failed_start_whose_engine_is_at_rest_is_not_explained_by_the_rest(rest: Reason) -> None:
    """`NotStarted` says nothing of why it failed; Wanted has the reason."""
    failed = a_condition(conditions.WANTED, "False", Reason.FIRST_START_FAILED)
    row = (failed, a_condition(conditions.READY, "False", rest))
    assert cause_of(row, 1).reason == Reason.FIRST_START_FAILED


@pytest.mark.parametrize(
    "left",
    [
        (conditions.WANTED, "False", Reason.IDLE),
        (conditions.WANTED, "False", Reason.DELETING),
        (conditions.GRANTED, "False", Reason.PREEMPTED),
    ],
    ids=["scaled to zero", "deleted", "preempted"],
)
@pytest.mark.parametrize("stuck", [("False", Reason.STOPPING), ("Unknown", Reason.NODE_UNREACHABLE)])
def test_a_stop_that_does_not_end_is_the_cause(stuck: tuple[str, str], left: tuple[str, str, str]) -> None:
    """That the Model is not to run explains nothing: its Pod is still there."""
    status, reason = stuck
    row = (
        a_condition(conditions.ACCEPTED),
        a_condition(*left),
        a_condition(conditions.READY, status, reason),
    )
    assert cause_of(row, 1).reason == reason
