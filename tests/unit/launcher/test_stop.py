"""Stopping: what is read before anything is deleted, when Stopped is written, and what a stop that does not end says."""

import itertools

import msgspec
import pytest

from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import RELEASING
from flexinfer.events import events
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Stop
from flexinfer.launcher.manifests import STOP_SECONDS
from flexinfer.launcher.memory import EngineProbed, Memory, pods_of, remember
from flexinfer.runtime.kubernetes.api import ConflictError
from tests.keyed import on_all_models
from tests.unit.launcher.acting import (
    SETTINGS,
    a_member,
    a_stuck_pod,
    a_world,
    deleted,
    granted,
    idle,
    observed,
    perform,
    pod,
    ready_message,
    ready_of,
    settled,
    started,
    stop,
    there,
    with_virtual_time,
)
from tests.unit.launcher.models import IDLE, a_start
from tests.unit.launcher.world import CutOffError, World

decide = on_all_models(deciding.decide)


def terminating_until(world: World, look: int) -> None:
    """Have the Pods of a world terminate until they are listed for this time."""
    world.lingering = True
    looks = itertools.count()

    def terminates(call: str) -> None:
        if call == "list pods" and next(looks) == look:
            world.end_pods()

    world.between = terminates


async def test_a_stop_writes_stopped_once_no_pod_is_left() -> None:
    """And not before: the Pod terminates for its grace period."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    terminating_until(world, 2)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)
    assert world.calls.count("list pods") == 3
    assert world.find("pods", "llama-0") is None


async def test_a_pod_whose_labels_were_removed_is_waited_for_too() -> None:
    """The list by label does not show it; Stopped was written while it still terminated."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    pod(world)["metadata"]["labels"].clear()
    idle(world)
    terminating_until(world, 2)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)
    assert world.calls.count("list pods") == 3
    assert world.find("pods", "llama-0") is None


async def test_a_stop_reads_the_shared_group_first_and_lists_last() -> None:
    """A release that begins after the first read must see a stop of its own."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    world.group(granted(step=RELEASING))
    world.calls.clear()
    await stop(world, runtime)
    assert world.calls == ["get sharedgroups", "get models", "delete pods", "list pods", "apply models"]


async def test_a_stop_that_is_no_longer_right_deletes_nothing() -> None:
    """A request arrived meanwhile."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]
    world.put("models", msgspec.to_builtins(a_start(finalizers=(RUNNING_FINALIZER,))))
    await perform(runtime, action)
    assert pod(world)


async def test_a_stop_never_deletes_a_pod_that_it_did_not_know() -> None:
    """The Pod of a new start under the same name is another decision."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]
    newer = world.things.pop(("pods", "default", "llama-0"))
    newer["metadata"]["uid"] = "newer"
    world.put("pods", newer)
    await perform(runtime, action)
    assert pod(world)["metadata"]["uid"] == "newer"
    assert ready_of(world)[1] != Reason.STOPPED


async def test_a_pod_that_was_terminating_and_no_longer_is_is_decided_on_again() -> None:
    """An API server that was restored from a backup has it again: nothing would end it, and the stop would wait for a minute."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]
    terminating = tuple(msgspec.structs.replace(pod, deleting=True) for pod in action.pods)
    world.calls.clear()
    replies = await perform(runtime, msgspec.structs.replace(action, pods=terminating))
    assert world.calls == ["get models", "list pods"]
    assert ready_of(world)[1] != Reason.STOPPED
    [probed] = [reply for reply in replies if isinstance(reply, EngineProbed)]
    memory = remember(Memory(), msgspec.structs.replace(probed, pod=None, gone=True, version=2**40), 1.0)
    assert not pods_of(there(world), state, memory), "it was held for deleted"
    [known] = pods_of(there(world), state, remember(memory, probed, 2.0))
    assert (known.uid, known.deleting) == (pod(world)["metadata"]["uid"], False)


async def test_a_turn_asked_back_is_returned_with_the_status() -> None:
    """The SharedGroup, read before the stop, said Releasing for this uid."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    world.group(granted(step=RELEASING))
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)


async def test_a_turn_asked_back_in_the_middle_of_a_stop_is_not_returned_by_it() -> None:
    """That stop began before; the next one returns it, though nothing runs."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    idle(world)
    world.between = lambda call: world.group(granted(step=RELEASING)) if call == "list pods" else None
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)


async def test_a_stop_that_does_not_end_says_what_keeps_the_pod() -> None:
    """Pod, node, finalizers and the exits; written once, however often the stop is retried."""
    world, _ = a_world(a_start())
    runtime = with_virtual_time(world)
    await started(world, runtime)
    idle(world)
    a_stuck_pod(world, node="a")
    await stop(world, runtime)
    assert runtime.clock() >= STOP_SECONDS
    assert ready_of(world) == ("False", Reason.STOPPING, 0)
    assert ready_message(world) == (
        "Pod llama-0 on node a with finalizers example.com/hold still exists 60s after its deletion: "
        "see kubectl describe pod llama-0 -n default; "
        "remove its finalizers: kubectl patch pod llama-0 -n default --type=merge "
        """-p '{"metadata":{"finalizers":null}}'; """
        "if node a is lost: kubectl delete node a, or if it is switched off "
        "kubectl taint node a node.kubernetes.io/out-of-service=:NoExecute"
    )
    version = there(world).metadata.resource_version
    await stop(world, runtime)
    assert there(world).metadata.resource_version == version
    world.end_pods()
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)


async def test_a_stop_that_does_not_end_returns_no_turn() -> None:
    """The arbiter must not take the device for free; once the Pod is deleted, the turn goes back."""
    world, _ = a_world(a_member())
    runtime = with_virtual_time(world)
    world.group(granted())
    await started(world, runtime, turn=4)
    world.group(granted(step=RELEASING))
    a_stuck_pod(world)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPING, 0)
    world.end_pods()
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)


async def test_stopped_says_how_long_it_took() -> None:
    """Drain and termination, in seconds."""
    world, _ = a_world(a_start())
    runtime = with_virtual_time(world)
    await started(world, runtime)
    idle(world)
    [action] = [a for a in decide(observed(world), Memory(), 0.0, settings=SETTINGS) if isinstance(a, Stop)]
    await runtime.sleep(1.2)
    await perform(runtime, msgspec.structs.replace(action, draining_since=0.0))
    assert ready_message(world) == "stopped: Pod llama-0 deleted after 1.2s of drain and 0.0s of termination"


async def test_a_failed_pod_that_does_not_go_keeps_its_condition() -> None:
    """Its back-off, and that a start was given up, must not be lost."""
    world, _ = a_world(a_start())
    runtime = with_virtual_time(world)
    await started(world, runtime)
    given_up = a_start(ready=("False", Reason.LOADING_TIMEOUT), finalizers=(RUNNING_FINALIZER,))
    world.put("models", msgspec.to_builtins(given_up))
    a_stuck_pod(world)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.LOADING_TIMEOUT, 0)
    assert (
        "; Pod llama-0 with finalizers example.com/hold still exists 60s after its deletion"
        in ready_message(world)
    )
    told = ready_message(world)
    await stop(world, runtime)
    assert ready_message(world) == told


async def test_a_deleted_model_is_removed_after_its_pods() -> None:
    """The finalizer outlives them."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    deleted(world)
    replies = await stop(world, runtime)
    assert world.find("pods", "llama-0") is None
    assert world.find("models", "llama") is None
    assert any(isinstance(r, events.ModelDeleted) for r in replies)


async def test_a_deleted_model_that_others_keep_gives_its_turn_back() -> None:
    """Its group waited for as long as the finalizer of another controller was there, and Ready said that it drained."""
    world, runtime = a_world(a_member())
    world.group(granted())
    await started(world, runtime, turn=4)
    world.touch("models", "llama", lambda m: m["metadata"]["finalizers"].append("example.com/theirs"))
    deleted(world)
    world.group(granted(step=RELEASING))
    await stop(world, runtime)
    assert there(world).metadata.finalizers == ("example.com/theirs",)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)
    assert ready_message(world).endswith(
        "; the Model stays until the controllers of its other finalizers have removed them: example.com/theirs"
    )
    assert not [a for a in decide(observed(world), Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]


async def test_a_finalizer_stays_when_the_model_was_written_after_the_read() -> None:
    """By the resourceVersion read before the list, so that nothing between the two is lost."""
    world, runtime = a_world(a_start(*IDLE, finalizers=(RUNNING_FINALIZER,), deletion_timestamp="x"))
    world.between = lambda call: (
        world.touch("models", "llama", lambda _m: None) if call == "list pods" else None
    )
    with pytest.raises(ConflictError):
        await stop(world, runtime)
    assert RUNNING_FINALIZER in there(world).metadata.finalizers


@pytest.mark.parametrize("cut", range(10))
async def test_a_deletion_cut_off_at_any_call_is_completed_by_the_successor(cut: int) -> None:
    """Nothing is left, neither Pod nor Model."""
    world, runtime = a_world(a_start())
    await settled(world, runtime, ready=True)
    deleted(world)
    world.cut = cut
    try:
        await settled(world, runtime)
    except* CutOffError:
        pass
    world.cut = -1
    await settled(world, runtime)
    assert world.find("models", "llama") is None
    assert world.find("pods", "llama-0") is None
