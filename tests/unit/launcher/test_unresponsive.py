"""An engine that is not heard for a while: what is remembered of it, so that its process outlives an upgrade and is not taken for one of a newer spec."""

from typing import Any

import pytest

from flexinfer.api import conditions
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.effects import Stop
from flexinfer.launcher.probe import is_prepared
from flexinfer.launcher.unresponsive import STAGE
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.actions import written as after
from tests.builders import NOW, a_condition, a_node
from tests.unit.launcher.deciding import READY, decided, message, outcome, traffic, written
from tests.unit.launcher.models import ADDRESS, OPEN, SETTINGS, a_probe, a_start, holding, its_pod

RESTARTING, UNREACHABLE = ("False", Reason.RESTARTING), ("Unknown", Reason.NODE_UNREACHABLE)
EARLIER = "rendered by an earlier release"
NO_ANSWER: dict[str, Any] = {"healthy": False, "detail": "no answer within 5s"}


def silent(ready: tuple[str, str], stage: str = STAGE, restarts: int = 0, **changes: Any) -> Model:
    """Return a Model whose engine was Ready, or not, and is not heard."""
    return a_start(
        ready=ready, backend_status=BackendStatus(loading_stage=stage, restarts=restarts), **changes
    )


def write_of(actions: list[Any]) -> WriteStatus:
    """Return the one write of a decision, which may wait for something too."""
    [action] = [action for action in actions if not isinstance(action, RequeueAt)]
    return written(action)


def stage_of(model: Model) -> str:
    """Return what a status remembers of an engine."""
    return model.status.backend.loading_stage if model.status.backend is not None else ""


def edited(model: Model, **changes: Any) -> Model:
    """Return a Model of generation 2 with every gate open, whose Ready is still that of generation 1."""
    backend, ready = model.status.backend, model.condition(conditions.READY)
    assert ready is not None
    return a_start(
        *[a_condition(gate, generation=2) for gate in OPEN],
        ready=(ready.status, ready.reason),
        generation=2,
        ready_generation=1,
        backend_status=backend,
        **changes,
    )


@pytest.mark.parametrize("ready", [RESTARTING, UNREACHABLE])
def test_an_engine_that_did_not_answer_for_a_while_outlives_an_upgrade(ready: tuple[str, str]) -> None:
    """Its process is the one that was Ready: it is Ready again as soon as it answers, or its node does."""
    model = silent(ready)
    pod = its_pod(model, template=EARLIER)
    [again] = decided(model, holding(model, pod), a_probe(model, pod))
    assert outcome(again) == READY


@pytest.mark.parametrize("restarts", [0, 3])
def test_an_engine_outlives_an_upgrade_during_which_its_node_was_not_ready_and_the_first_probe_fails(
    restarts: int,
) -> None:
    """From Ready to Ready, each decision on what the one before wrote; also where the Pod had restarted before that."""
    model = a_start(ready=READY, backend_status=BackendStatus(address=ADDRESS, restarts=restarts))
    ended = {"exit_code": 137, "last": "OOMKilled"} if restarts else {}
    pod = its_pod(model, template=EARLIER, restarts=restarts, **ended)
    away = write_of(decided(model, holding(model, pod), a_probe(model, pod), a_node(ready="Unknown")))
    assert away.condition.reason == Reason.NODE_UNREACHABLE
    model = after(away)
    by = SETTINGS.loading_seconds  # another launcher, which has not asked yet
    assert decided(model, holding(model, pod), a_node()) == [RequeueAt(NOW + by)]
    assert outcome(write_of(decided(model, holding(model, pod), a_node(), after=by))) == RESTARTING
    failed = decided(model, holding(model, pod), a_probe(model, pod, **NO_ANSWER), a_node())
    assert outcome(write_of(failed)) == RESTARTING
    assert message(write_of(failed)) == "engine stopped responding (no answer within 5s)"
    model = after(write_of(failed))
    assert stage_of(model) == STAGE
    [wait] = decided(model, holding(model, pod), a_probe(model, pod, **NO_ANSWER), a_node())
    assert isinstance(wait, RequeueAt)
    [again] = decided(model, holding(model, pod), a_probe(model, pod), a_node())
    assert outcome(again) == READY


def test_an_engine_that_answers_again_took_as_long_to_load_as_before() -> None:
    """Who leaves for whom depends on it."""
    model = a_start(ready=RESTARTING, backend_status=BackendStatus(loading_stage=STAGE, load_seconds=40.0))
    pod = its_pod(model)
    again = write_of(decided(model, holding(model, pod), a_probe(model, pod), after=0.5))
    backend = after(again).status.backend
    assert backend is not None
    assert (backend.load_seconds, message(again)) == (40.0, f"engine healthy at {ADDRESS} (loaded in 40s)")


def test_an_engine_that_does_not_answer_is_not_drained_for_an_upgrade() -> None:
    """It has its time to answer again, as without an upgrade."""
    model = silent(RESTARTING)
    pod = its_pod(model, template=EARLIER)
    wait, says = decided(model, holding(model, pod), a_probe(model, pod, **NO_ANSWER))
    assert isinstance(wait, RequeueAt)
    assert outcome(says) == RESTARTING


@pytest.mark.parametrize("ready", [RESTARTING, UNREACHABLE])
def test_an_engine_whose_process_ended_has_the_template_of_the_upgrade(ready: tuple[str, str]) -> None:
    """What starts anyway starts as the newer release would start it, also if it ended unobserved."""
    model = silent(ready)
    pod = its_pod(model, template=EARLIER, restarts=1, exit_code=1)
    actions = decided(model, holding(model, pod), traffic(model, "p", 0))
    if ready == UNREACHABLE:  # which requests it had is not known yet
        assert outcome(write_of(actions)) == ("False", Reason.DRAINING)
    else:
        [stop] = actions
        assert (type(stop), stop.cause) == (Stop, "its Pod template changed")


@pytest.mark.parametrize("ready", [RESTARTING, UNREACHABLE])
def test_a_spec_that_changes_while_the_engine_is_not_heard_is_applied(ready: tuple[str, str]) -> None:
    """The engine was Ready with the spec before, and is none of this one although Ready was written of it meanwhile."""
    model = silent(ready)
    pod = its_pod(model, template="of the spec before")
    closed = edited(model)
    closed = a_start(
        "Accepted",
        ready=ready,
        generation=2,
        ready_generation=1,
        backend_status=closed.status.backend,
    )
    node = a_node(ready="Unknown") if ready == UNREACHABLE else a_node()
    waits = write_of(decided(closed, holding(closed, pod), a_probe(closed, pod, **NO_ANSWER), node))
    assert (waits.condition.reason, waits.condition.observed_generation) == (ready[1], 2)
    model = a_start(ready=ready, generation=2, backend_status=after(waits).status.backend)
    assert stage_of(model) == "Restart"
    actions = decided(model, holding(model, pod), a_probe(model, pod), traffic(model, "p", 1), a_node())
    assert outcome(write_of(actions)) == ("False", Reason.DRAINING)
    assert "its Pod template changed" in message(write_of(actions))


def test_an_engine_that_was_draining_as_its_node_fell_silent_is_not_ready_with_the_newer_spec() -> None:
    """It drained to make room for that one."""
    model = a_start(ready=("False", Reason.DRAINING))
    pod = its_pod(model, template="of the spec before")
    model = after(write_of(decided(model, holding(model, pod), a_node(ready="Unknown"))))
    actions = decided(model, holding(model, pod), a_probe(model, pod), a_node())
    assert outcome(write_of(actions)) == ("False", Reason.DRAINING)


def test_an_engine_that_still_loaded_as_its_node_fell_silent_loads() -> None:
    """It has had no request, and was not Ready."""
    model = a_start(ready=("False", Reason.LOADING), backend_status=BackendStatus(loading_stage="Weights"))
    pod = its_pod(model)
    model = after(write_of(decided(model, holding(model, pod), a_node(ready="Unknown"))))
    assert stage_of(model) == ""
    actions = decided(model, holding(model, pod), a_probe(model, pod, **NO_ANSWER), a_node())
    assert outcome(write_of(actions)) == ("False", Reason.LOADING)


@pytest.mark.parametrize("pod", [{}, {"running": False}, {"running": False, "restarts": 1}])
def test_what_is_written_of_a_silent_node_is_written_once(pod: dict[str, Any]) -> None:
    """Whatever its Pod was last."""
    model = a_start(ready=READY)
    facts: PodFacts = its_pod(model, **pod)
    model = after(write_of(decided(model, holding(model, facts), a_node(ready="Unknown"))))
    assert decided(model, holding(model, facts), a_node(ready="Unknown")) == []


@pytest.mark.parametrize("ready", [RESTARTING, UNREACHABLE])
def test_the_prompt_caches_of_a_process_that_was_ready_are_not_restored_again(ready: tuple[str, str]) -> None:
    """Another launcher asks it first: it has newer ones by then."""
    model = silent(ready)
    assert is_prepared(model, its_pod(model))
    assert not is_prepared(model, its_pod(model, restarts=1))
    loads = a_start(ready=("False", Reason.LOADING))
    assert not is_prepared(loads, its_pod(loads))
