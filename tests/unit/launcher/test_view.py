"""The view of a Model: what its conditions and SharedGroups mean for the launcher."""

from typing import Any

import pytest

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Gpu, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, SharedGroup
from flexinfer.launcher.view import group_names, view_of
from tests.builders import a_condition, a_group, a_holder
from tests.unit.launcher.models import IDLE, OPEN, a_start

CARD = Gpu(vendor="nvidia", shared="card")


def a_member(**changes: Any) -> Model:
    """Return a Model of the shared group `card`."""
    return a_start(
        gpu=CARD, **({"shared_group": GroupMembership(group="card", state="Holding", turn=4)} | changes)
    )


def held(step: str = GRANTED, turn: int = 4, uid: str = "uid-llama", group: str = "card") -> SharedGroup:
    """Return the SharedGroup of a group, held by llama."""
    return a_group(a_holder(uid=uid, step=step, turn=turn), name=group)


def test_all_gates_are_open_when_all_five_are_true() -> None:
    """At the current generation, and only while the Model is not being deleted."""
    assert view_of(a_start()).gates_open
    assert not view_of(a_start(deletion_timestamp="2026-11-24T10:00:00Z")).gates_open


@pytest.mark.parametrize("kind", OPEN)
def test_a_condition_of_an_older_generation_is_unknown(kind: str) -> None:
    """It neither opens a gate nor stops an engine."""
    gates = [a_condition(g, "False" if g == kind else "True", generation=1 if g == kind else 2) for g in OPEN]
    view = view_of(a_start(*gates, generation=2))
    gate = getattr(view, kind.lower())
    assert (gate.true, gate.false, gate.reason) == (False, False, "")
    assert not view.gates_open
    assert view.stop_cause == ""


def test_ready_counts_whatever_its_generation() -> None:
    """A running engine keeps serving."""
    ready = view_of(a_start(ready=("True", Reason.READY), generation=2, ready_generation=1)).ready
    assert (ready.true, ready.current, ready.older_spec) == (True, False, False)


def test_a_start_of_an_older_generation_was_not_given_up_for_this_one() -> None:
    """A change of the spec retries."""
    failed = ("False", Reason.LOADING_TIMEOUT)
    assert view_of(a_start(ready=failed)).ready.given_up
    assert not view_of(a_start(ready=failed, generation=2, ready_generation=1)).ready.given_up


@pytest.mark.parametrize(
    ("model", "cause"),
    [
        pytest.param(a_start(), "", id="it may run"),
        pytest.param(a_start(*IDLE), "Wanted is False", id="idle"),
        pytest.param(
            a_start(*OPEN[:4], ("Granted", "False", Reason.QUEUED)), "Granted is False", id="queued"
        ),
        pytest.param(a_start(("Wanted", "False", Reason.NOT_ACCEPTED)), "", id="newer spec refused"),
        pytest.param(a_start(("Placed", "False", Reason.NODE_GONE)), "its node is gone", id="node gone"),
        pytest.param(a_start(("Placed", "False", Reason.NO_NODE_FITS)), "", id="no node fits"),
        pytest.param(a_start(deletion_timestamp="x"), "the Model is being deleted", id="deleted"),
    ],
)
def test_few_things_stop_a_running_engine(model: Model, cause: str) -> None:
    """Conditions gate starts; they do not stop running engines."""
    assert view_of(model).stop_cause == cause


def test_a_release_of_its_turn_stops_it() -> None:
    """The SharedGroup asks this uid for this turn."""
    view = view_of(a_member(), [held(RELEASING)])
    assert (view.release_turn, view.stop_cause) == (4, "turn 4 is to be released")
    assert view_of(a_member(), [held(RELEASING, uid="another")]).release_turn == 0


@pytest.mark.parametrize(
    ("group", "turn"),
    [
        pytest.param(held(), 4, id="granted"),
        pytest.param(held(RELEASING), None, id="asked back"),
        pytest.param(held(STOPPED), None, id="stopped"),
        pytest.param(a_group(), None, id="freed"),
        pytest.param(a_group(initialized=False), None, id="not initialised"),
        pytest.param(held(uid="another"), None, id="another holder"),
        pytest.param(held(group="other"), None, id="a group that it is leaving"),
        pytest.param(None, None, id="no SharedGroup"),
    ],
)
def test_only_its_own_shared_group_grants_a_turn(group: SharedGroup | None, turn: int | None) -> None:
    """To this uid, at the step Granted."""
    assert view_of(a_member(), [group]).held_turn == turn


def test_a_model_in_no_group_has_turn_0() -> None:
    """It needs no grant."""
    view = view_of(a_start())
    assert (view.turn, view.held_turn, group_names(view.model)) == (0, 0, ())


def test_a_model_that_leaves_a_group_may_hold_devices_of_two() -> None:
    """Its own group's first; not of one in which it only waited."""
    left = a_member(shared_group=GroupMembership(group="old", state="Releasing", turn=2))
    assert group_names(left) == ("card", "old")
    waited = a_member(shared_group=GroupMembership(group="old", state="Queued"))
    assert group_names(waited) == ("card",)


@pytest.mark.parametrize("group", [None, a_group(initialized=False)])
def test_in_a_group_that_is_not_initialised_nothing_is_started_or_stopped(group: SharedGroup | None) -> None:
    """Before the arbiter has looked at the Pods, a change of them would be missed."""
    assert not view_of(a_member(), [group]).gates_open
    idle = a_start(*IDLE, gpu=CARD, shared_group=GroupMembership(group="card", state="Holding", turn=4))
    assert view_of(idle, [group]).stop_cause == ""
    assert view_of(idle, [a_group()]).stop_cause == "Wanted is False"
