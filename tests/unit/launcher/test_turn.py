"""A turn of a shared group opens one Pod: what follows when that Pod is gone, failed, or must be another."""

from collections.abc import Sequence
from typing import Any

import pytest

from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import RELEASING, HeldDevice
from flexinfer.launcher.effects import Purpose, Start, Stop
from flexinfer.launcher.manifests import template
from flexinfer.launcher.memory import Memory
from flexinfer.launcher.start_settings import settings_of
from flexinfer.launcher.view import view_of
from flexinfer.runtime.settings import Settings
from flexinfer.state.actions import RequeueAt
from tests.builders import NOW, SHARED, a_group, a_holder
from tests.unit.launcher.acting import (
    SETTINGS,
    a_member,
    a_world,
    decide,
    granted,
    observed,
    perform,
    pod,
    ready_of,
    started,
    stop,
    there,
)
from tests.unit.launcher.deciding import decided, outcome, ready
from tests.unit.launcher.models import IDLE, OPEN, a_start, holding, its_pod

OPENED = BackendStatus(turn=4, pod_uid="pod-llama", restarts=1)
HELD = a_group(a_holder(turn=4))


def holder(
    condition: tuple[str, str], backend: BackendStatus = OPENED, gates: Sequence[Any] = (), **changes: Any
) -> Model:
    """Return a Model that is granted turn 4."""
    membership = GroupMembership(group="card", state="Holding", turn=4)
    return a_start(
        *gates, gpu=SHARED, shared_group=membership, ready=condition, backend_status=backend, **changes
    )


def test_an_engine_in_a_group_is_not_restarted_in_its_pod() -> None:
    """A Pod of its own engine alone may be."""
    policies = [template(a_start(gpu=gpu), settings_of(Settings())) for gpu in (SHARED, None)]
    assert [p.spec["restartPolicy"] for p in policies if p is not None] == ["Never", "Always"]


def test_a_turn_whose_pod_was_deleted_is_reported_as_over_without_being_given_back() -> None:
    """The arbiter releases it; nothing of it is trusted to be free."""
    [action] = decided(holder(("True", Reason.READY)), HELD)
    assert outcome(action) == ("False", Reason.STOPPED)
    assert (ready(action).backend.turn, ready(action).backend.pod_uid) == (4, "pod-llama")
    assert decided(holder(("False", Reason.STOPPED)), HELD) == []


def test_a_failure_is_not_overwritten_by_the_end_of_its_turn() -> None:
    """The reason of the failure says that too."""
    assert decided(holder(("False", Reason.BACK_OFF)), HELD) == []


def test_the_next_turn_after_a_failure_waits_for_the_back_off() -> None:
    """Else an engine that cannot start would change turns as fast as it fails."""
    failed = holder(("False", Reason.STOPPED), BackendStatus(turn=3, restarts=2))
    actions = decided(failed, HELD)
    assert [type(action) for action in actions] == [RequeueAt]
    assert actions[0].at > NOW
    fresh = holder(("False", Reason.STOPPED), BackendStatus(turn=3))
    assert [type(action) for action in decided(fresh, HELD)] == [Start]


def test_nothing_is_started_where_the_turn_is_not() -> None:
    """The placement moved after the grant: the arbiter releases the turn, since memory is looked for on its node alone."""
    fresh = holder(("False", Reason.STOPPED), BackendStatus(turn=3))
    assert decided(fresh, a_group(a_holder(turn=4, node="b"))) == []
    assert decided(fresh, a_group(a_holder(turn=4, devices=("GPU-2",)))) == []
    less = HeldDevice(uuid="GPU-1", memory_mb=3000)
    raised = Placement(node="a", devices=placed_devices(["GPU-1"], 6000))
    larger = holder(("False", Reason.STOPPED), BackendStatus(turn=3), placement=raised)
    assert decided(larger, a_group(a_holder(turn=4, devices=(less,)))) == []


def test_the_gated_pod_of_a_turn_that_is_elsewhere_is_deleted() -> None:
    """Its turn names it, so that the arbiter takes it for open, and it never opens: without this the Model would stay Starting without end."""
    model = holder(("False", Reason.STARTING))
    gated = holding(
        model,
        its_pod(model, uid="pod-llama", turn=4, gates=("flexinfer.ai/turn-4",), node="", running=False),
    )
    elsewhere = a_group(a_holder(turn=4, devices=("GPU-2",)))
    [action] = decided(model, elsewhere, gated)
    assert isinstance(action, Stop)
    assert (action.purpose, action.cause) == (
        Purpose.RENEW,
        "its turn 4 is of other devices or less memory than its placement",
    )
    assert [type(action) for action in decided(model, HELD, gated)] == [Start]
    [after] = decided(model, elsewhere)
    assert outcome(after) == ("False", Reason.STOPPED)


NO_WEIGHTS = ("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted", "Granted")


@pytest.mark.parametrize("before", [("True", Reason.READY), ("False", Reason.LOADING)])
@pytest.mark.parametrize("gates", [NO_WEIGHTS, ("Accepted",)])
def test_a_turn_whose_pod_is_gone_is_over_also_while_a_newer_spec_is_prepared(
    gates: tuple[Any, ...], before: tuple[str, str]
) -> None:
    """A download may take hours: without an engine the Model holds no devices for it."""
    model = holder(before, gates=gates)
    [action] = decided(model, HELD)
    assert outcome(action) == ("False", Reason.STOPPED)
    assert decided(model, a_group(a_holder(turn=4), initialized=False)) != [action]


@pytest.mark.parametrize("lacks", ["Placed", "Cached"])
def test_a_gated_pod_whose_turn_cannot_go_on_is_deleted(lacks: str) -> None:
    """The weights were deleted, or are those of a newer spec, between grant and start: nothing else would end that turn."""
    gates = [(gate, "False", Reason.NOT_PLACED) if gate == lacks else gate for gate in OPEN]
    model = holder(("False", Reason.STARTING), gates=gates)
    gated = holding(
        model,
        its_pod(model, uid="pod-llama", turn=4, gates=("flexinfer.ai/turn-4",), node="", running=False),
    )
    [action] = decided(model, HELD, gated)
    assert isinstance(action, Stop)
    assert (action.purpose, action.cause) == (Purpose.RENEW, f"{lacks} turned False before its Pod was open")
    [after] = decided(model, HELD)
    assert outcome(after) == ("False", Reason.STOPPED)


@pytest.mark.parametrize("lacks", ["Placed", "Cached"])
def test_a_gated_pod_in_no_group_is_deleted_too_so_that_its_model_does_not_seem_to_start(lacks: str) -> None:
    """While Ready said Starting, the Model stayed wanted without end."""
    gates = [(gate, "False", Reason.NOT_PLACED) if gate == lacks else gate for gate in OPEN]
    model = a_start(*gates, ready=("False", Reason.STARTING))
    gated = its_pod(model, gates=("flexinfer.ai/turn-0",), node="", running=False)
    [action] = decided(model, holding(model, gated))
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.RENEW
    [after] = decided(model)
    assert outcome(after) == ("False", Reason.NOT_STARTED)
    unknown = a_start("Accepted", ready=("False", Reason.STARTING))
    assert decided(unknown, holding(unknown, gated)) == []


@pytest.mark.parametrize("back", [False, True])
async def test_a_gated_pod_is_deleted_only_if_its_weights_are_still_missing(*, back: bool) -> None:
    """The Model is read before: what came back meanwhile keeps the turn."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    world.touch(
        "pods", "llama-0", lambda p: p["spec"].update(schedulingGates=[{"name": "flexinfer.ai/turn-4"}])
    )
    cached = [[*_conditions(a_start(*gates)), _starting()] for gates in (NO_WEIGHTS, OPEN)]
    world.touch("models", "llama", lambda m: m["status"].update(conditions=cached[0]))
    [action] = [a for a in decide(observed(world), Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]
    if back:
        world.touch("models", "llama", lambda m: m["status"].update(conditions=cached[1]))
    await perform(runtime, action)
    assert ("delete pods" in world.calls) is not back


def test_another_template_ends_the_turn() -> None:
    """Drained and stopped first; then the turn is over."""
    model = holder(("False", Reason.DRAINING))
    changed = holding(model, its_pod(model, template="another", turn=4))
    [action] = [a for a in decided(model, HELD, changed, after=60.0) if isinstance(a, Stop)]
    assert action.purpose is Purpose.RENEW
    [after] = decided(model, HELD, after=60.0)
    assert outcome(after) == ("False", Reason.STOPPED)


async def test_a_stop_that_answers_a_release_leaves_the_turn_without_its_pod() -> None:
    """That is how it is given back; any other stop leaves both."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    opened = pod(world)["metadata"]["uid"]
    world.touch("models", "llama", lambda m: m["status"].update(conditions=_conditions(a_start(*IDLE))))
    await stop(world, runtime)
    backend = there(world).status.backend
    assert backend is not None
    assert (ready_of(world)[1], backend.turn, backend.pod_uid) == (Reason.STOPPED, 4, opened)
    world.group(granted(step=RELEASING))
    await stop(world, runtime)
    assert view_of(there(world)).has_returned(4)


def _starting() -> dict[str, Any]:
    return {"type": "Ready", "status": "False", "reason": Reason.STARTING, "observedGeneration": 1}


def _conditions(model: Model) -> Any:
    return [
        {"type": c.type, "status": c.status, "reason": c.reason, "observedGeneration": 1}
        for c in model.status.conditions
    ]


async def test_in_a_group_without_a_first_look_a_stop_deletes_nothing() -> None:
    """The arbiter must see the Pods as they are. A Model that is deleted and has no Pod goes."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    world.touch("models", "llama", lambda m: m["status"].update(conditions=_conditions(a_start(*IDLE))))
    world.between = lambda call: (
        world.group(a_group(initialized=False)) if call == "get sharedgroups" else None
    )
    await stop(world, runtime)
    assert pod(world)
    assert "delete pods" not in world.calls
