"""Starting: what is read before the gate opens, and that being cut off at any call loses nothing."""

import msgspec
import pytest

from flexinfer.api.labels import RUNNING_FINALIZER, TURN_LABEL
from flexinfer.api.model import BackendStatus, Gpu
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import RELEASING, SharedGroup
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Start
from flexinfer.launcher.memory import EngineProbed, Memory
from flexinfer.runtime.kubernetes.api import ConflictError, ForbiddenError
from tests.builders import a_group, a_holder
from tests.keyed import on_all_models
from tests.unit.launcher.acting import (
    SETTINGS,
    a_member,
    a_world,
    granted,
    observed,
    perform,
    pod,
    ready_message,
    ready_of,
    settled,
    started,
    there,
)
from tests.unit.launcher.models import IDLE, a_start, starting
from tests.unit.launcher.world import CutOffError, open_gate_of

decide = on_all_models(deciding.decide)


async def test_a_start_puts_the_finalizer_on_and_opens_the_gate() -> None:
    """In three round trips."""
    world, runtime = a_world(a_start())
    replies = await started(world, runtime)
    assert RUNNING_FINALIZER in there(world).metadata.finalizers
    assert open_gate_of(pod(world))
    assert any(isinstance(r, EngineProbed) and r.pod and not r.pod.gates for r in replies)
    assert sorted(world.calls[:2]) == ["create pods", "patch models"]


async def test_the_gate_stays_closed_for_a_model_that_is_no_longer_wanted() -> None:
    """What was decided is read again before it counts."""
    world, runtime = a_world(a_start())

    def becomes_idle(call: str) -> None:
        if call == "get models":
            world.put("models", msgspec.to_builtins(a_start(*IDLE, finalizers=(RUNNING_FINALIZER,))))

    world.between = becomes_idle
    await started(world, runtime)
    assert not open_gate_of(pod(world))


async def test_the_gate_stays_closed_for_a_model_whose_memory_was_not_checked_for_this_start() -> None:
    """The placer has found meanwhile that another start is meant."""
    card = Gpu(vendor="nvidia")
    world, runtime = a_world(a_start(gpu=card, placement=Placement(node="a")))

    def moves(call: str) -> None:
        if call == "get models":
            placement = Placement(node="a", checked_for="2026-01-01T12:00:00Z")
            moved = a_start(gpu=card, placement=placement, finalizers=(RUNNING_FINALIZER,))
            world.put("models", msgspec.to_builtins(moved))

    world.between = moves
    await started(world, runtime)
    assert not open_gate_of(pod(world))


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(None, id="no SharedGroup"),
        pytest.param(a_group(initialized=False), id="not initialised"),
        pytest.param(granted(turn=5), id="a later turn"),
        pytest.param(granted(step=RELEASING), id="asked back"),
        pytest.param(granted(holder="another"), id="another holder"),
        pytest.param(a_group(a_holder(turn=4, node="b")), id="the turn is of another node"),
        pytest.param(a_group(a_holder(turn=4, devices=("GPU-2",))), id="the turn is of another device"),
    ],
)
async def test_the_gate_stays_closed_without_the_turn(group: SharedGroup | None) -> None:
    """The SharedGroup is the only place where exclusivity is decided."""
    world, runtime = a_world(a_member())
    if group is not None:
        world.group(group)
    await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))


async def test_the_gate_opens_on_the_turn_that_the_shared_group_grants() -> None:
    """Granted, to the uid, in the turn that was decided on."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    assert open_gate_of(pod(world))


async def test_a_pod_deleted_after_the_reads_refuses_the_patch_of_its_gate() -> None:
    """A release that begins after the reads wins, whatever any clock says (reliability G6)."""
    world, runtime = a_world(a_member())
    world.group(granted())

    def deletes(call: str) -> None:
        if call == "patch pods":
            previous = world.things.pop(("pods", "default", "llama-0"))
            previous["metadata"] = {k: v for k, v in previous["metadata"].items() if k != "uid"}
            world.put("pods", previous)

    world.between = deletes
    with pytest.raises(ConflictError):
        await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))


async def test_a_gated_pod_of_an_earlier_turn_is_replaced() -> None:
    """Only after reads that still grant this turn; the next attempt creates the right one."""
    world, runtime = a_world(a_member(turn=3))
    world.group(granted(turn=3))
    world.between = lambda call: world.group(granted(turn=4)) if call == "create pods" else None
    await started(world, runtime, turn=3)
    world.between = lambda _call: None
    world.touch("models", "llama", lambda m: m["status"]["sharedGroup"].update(turn=4))
    await started(world, runtime, turn=4)
    assert world.find("pods", "llama-0") is None
    await started(world, runtime, turn=4)
    assert pod(world)["metadata"]["labels"][TURN_LABEL] == "4"
    assert open_gate_of(pod(world))


async def test_the_pod_of_a_later_turn_is_not_deleted() -> None:
    """A launcher that was paused reads the SharedGroup before it deletes."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    uid = pod(world)["metadata"]["uid"]
    await started(world, runtime, turn=3)
    assert pod(world)["metadata"]["uid"] == uid


async def test_the_pod_of_a_newer_template_is_not_deleted() -> None:
    """A launcher that was paused holds the turn, which is still the present one, and the spec as it was before."""
    world, runtime = a_world(a_member())
    world.group(granted())
    paused = starting(there(world), 4, SETTINGS)
    world.touch("models", "llama", lambda m: m["spec"].update(config={"contextSize": 4096}))
    await started(world, runtime, turn=4)
    uid = pod(world)["metadata"]["uid"]
    await perform(runtime, paused)
    assert pod(world)["metadata"]["uid"] == uid


async def test_a_foreign_pod_is_left_unchanged_and_reported() -> None:
    """With its kind and the remedy."""
    world, runtime = a_world(a_start())
    world.put("pods", {"metadata": {"name": "llama-0", "uid": "foreign"}, "spec": {}})
    await started(world, runtime)
    assert pod(world)["metadata"]["uid"] == "foreign"
    assert ready_of(world) == ("False", Reason.NAME_TAKEN, 0)
    assert "kubectl delete pod llama-0 -n default" in ready_message(world)


async def test_a_pod_that_the_api_server_rejects_is_reported() -> None:
    """With the API server's error; nothing else is done."""
    world, runtime = a_world(a_start())

    def rejects(call: str) -> None:
        if call == "create pods":
            raise ForbiddenError("exceeded quota: gpus", 403)

    world.between = rejects
    await started(world, runtime)
    assert ready_of(world) == ("False", Reason.CREATE_REFUSED, 0)
    assert ready_message(world) == "the API server rejected it: exceeded quota: gpus"
    assert "patch pods" not in world.calls


async def test_a_start_creates_a_service_whose_name_was_taken_before_it_does_anything_else() -> None:
    """Once the other object is deleted."""
    model = a_start(ready=("False", Reason.NAME_TAKEN))
    world, runtime = a_world(model)
    [action] = decide(observed(world), Memory(), 5.0, settings=SETTINGS)
    assert isinstance(action, Start)
    await perform(runtime, action)
    assert world.calls[0] == "create services"
    assert world.find("services", "llama") is not None
    assert open_gate_of(pod(world))


async def test_a_foreign_finalizer_stays() -> None:
    """One is added, none is replaced."""
    world, runtime = a_world(a_start(finalizers=("example.com/other",)))
    await started(world, runtime)
    assert there(world).metadata.finalizers == ("example.com/other", RUNNING_FINALIZER)


async def test_a_start_reads_only_after_its_pod_exists() -> None:
    """A release that these reads miss finds the Pod and deletes it."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    assert sorted(world.calls[:2]) == ["create pods", "patch models"]
    assert sorted(world.calls[2:4]) == ["apply models", "get sharedgroups"]
    assert world.calls[4:] == ["patch pods"]


@pytest.mark.parametrize("cut", range(12))
async def test_a_start_cut_off_at_any_call_is_completed_by_the_successor(cut: int) -> None:
    """One Pod, its gate open, Ready; whatever was done when the process ended (reliability G6)."""
    world, runtime = a_world(a_member())
    world.group(granted())
    world.cut = cut
    try:
        await settled(world, runtime, ready=True)
    except* CutOffError:
        pass
    world.cut = -1
    await settled(world, runtime, ready=True)
    assert open_gate_of(pod(world))
    assert ready_of(world)[:2] == ("True", Reason.READY)


async def test_the_status_names_turn_and_pod_before_the_gate_opens() -> None:
    """So that a turn opens one Pod, whichever replica continues the start."""
    world, runtime = a_world(a_member())
    world.group(granted())
    named: list[BackendStatus | None] = []
    world.between = lambda call: named.append(there(world).status.backend) if call == "patch pods" else None
    await started(world, runtime, turn=4)
    [backend] = named
    assert backend is not None
    assert (backend.turn, backend.pod_uid) == (4, pod(world)["metadata"]["uid"])


async def test_a_turn_whose_pod_is_gone_opens_no_other() -> None:
    """Its memory may still be in use: the turn is reported as over, without being given back (reliability G6)."""
    backend = BackendStatus(turn=4, pod_uid="the one that crashed")
    world, runtime = a_world(a_member(backend_status=backend, ready=("False", Reason.RESTARTING)))
    world.group(granted())
    await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))
    assert there(world).status.backend == backend
    assert ready_of(world) == ("False", Reason.STOPPED, 0)


async def test_a_launcher_that_was_paused_never_writes_a_lower_turn() -> None:
    """Its successor has named the Pod of a later turn meanwhile."""
    backend = BackendStatus(turn=5, pod_uid="the later one")
    world, runtime = a_world(a_member(turn=5, backend_status=backend))
    world.group(granted(turn=4))
    await started(world, runtime, turn=4)
    assert there(world).status.backend == backend
    assert not open_gate_of(pod(world))


async def test_a_number_that_cannot_be_a_turn_keeps_none_from_being_written() -> None:
    """Written into the status by hand: the Pod stayed gated without end."""
    backend = BackendStatus(turn=10**18, pod_uid="none of ours")
    world, runtime = a_world(a_member(backend_status=backend))
    world.group(granted())
    await started(world, runtime, turn=4)
    current = there(world).status.backend
    assert current is not None
    assert (current.turn, current.pod_uid) == (4, pod(world)["metadata"]["uid"])
    assert open_gate_of(pod(world))


async def test_a_model_that_was_written_since_the_pod_was_created_is_decided_on_again() -> None:
    """What was written may be its release."""
    world, runtime = a_world(a_member(finalizers=(RUNNING_FINALIZER,)))
    world.group(granted())

    def writes(call: str) -> None:
        if call == "create pods":
            world.touch("models", "llama", lambda m: m["metadata"].update(labels={"other": "write"}))

    world.between = writes
    with pytest.raises(ConflictError):
        await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))
