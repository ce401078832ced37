"""The launcher's effects: what they read before they act, and that being cut off at any call loses nothing."""

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER, SERVICE_LABELS_ANNOTATION, TURN_LABEL
from flexinfer.api.model import Gpu, Model, SharedGroup
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import GRANTED, RELEASING, GroupLease, pod_facts
from flexinfer.launcher.decide import decide
from flexinfer.launcher.effects import Announce, Effect, Expose, Start, Stop
from flexinfer.launcher.memory import EngineProbed, Memory, fold
from flexinfer.launcher.perform import perform as perform_effect
from flexinfer.launcher.settings import settings_of
from flexinfer.launcher.stop import STOP_SECONDS
from flexinfer.runtime.kubernetes.api import MODELS, PODS, ConflictError, ForbiddenError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.runtimes import ListBus, a_runtime
from tests.unit.launcher.models import IDLE, a_start, starting
from tests.unit.launcher.world import CutOffError, World, open_gate_of

SHARED = Gpu(vendor="nvidia", shared="card")
SETTINGS = settings_of(Settings())


async def perform(runtime: Runtime, action: Effect) -> Sequence[Any]:
    """Perform an effect with the settings of these tests."""
    return await perform_effect(runtime, action, settings=SETTINGS)


def a_world(model: Model) -> tuple[World, Runtime]:
    """Return a world that holds one Model, and the launcher's runtime in it."""
    world = World()
    world.put("models", msgspec.to_builtins(model))
    return world, a_runtime("launcher", cluster=world)


def there(world: World, name: str = "llama") -> Model:
    """Return the Model as the API holds it."""
    return msgspec.convert(world.find("models", name), Model)


def granted(turn: int = 4, step: str = GRANTED, holder: str = "uid-llama") -> GroupLease:
    """Return the Lease of the group `card`."""
    return GroupLease(
        namespace="default", group="card", holder="llama", holder_uid=holder, step=step, turn=turn
    )


def a_member(*gates: Any, turn: int = 4, **changes: Any) -> Model:
    """Return a Model that shares the card and has its turn in its status."""
    return a_start(*gates, gpu=SHARED, shared_group=SharedGroup(group="card", turn=turn), **changes)


async def started(world: World, runtime: Runtime, turn: int = 0) -> list[Any]:
    """Perform one start of the Model as it stands."""
    return list(await perform(runtime, starting(there(world), turn, SETTINGS)))


def ready_of(world: World) -> tuple[str, str, int]:
    """Return what Ready says, and the turn beside it."""
    model = there(world)
    ready = model.condition(conditions.READY)
    turn = model.status.backend.turn if model.status.backend else 0
    return (ready.status, ready.reason, turn) if ready else ("", "", turn)


def ready_message(world: World) -> str:
    """Return the message of Ready."""
    ready = there(world).condition(conditions.READY)
    assert ready is not None
    return ready.message


def pod(world: World) -> dict[str, Any]:
    """Return the Pod, which must be there."""
    body = world.find("pods", "llama-0")
    assert body is not None
    return body


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


@pytest.mark.parametrize(
    "lease",
    [
        pytest.param(None, id="no Lease"),
        pytest.param(granted(turn=5), id="a later turn"),
        pytest.param(granted(step=RELEASING), id="asked back"),
        pytest.param(granted(holder="another"), id="another holder"),
    ],
)
async def test_the_gate_stays_closed_without_the_turn(lease: GroupLease | None) -> None:
    """The Lease is the only place where exclusivity is decided."""
    world, runtime = a_world(a_member())
    if lease is not None:
        world.lease(lease)
    await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))


async def test_the_gate_opens_on_the_turn_that_the_lease_grants() -> None:
    """Granted, to the uid, in the turn that was decided on."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    assert open_gate_of(pod(world))


async def test_a_pod_deleted_after_the_reads_refuses_the_patch_of_its_gate() -> None:
    """A release that begins after the reads wins, whatever any clock says."""
    world, runtime = a_world(a_member())
    world.lease(granted())

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
    world.lease(granted(turn=3))
    world.between = lambda call: world.lease(granted(turn=4)) if call == "get models" else None
    await started(world, runtime, turn=3)
    world.between = lambda _call: None
    world.touch("models", "llama", lambda m: m["status"]["sharedGroup"].update(turn=4))
    await started(world, runtime, turn=4)
    assert world.find("pods", "llama-0") is None
    await started(world, runtime, turn=4)
    assert pod(world)["metadata"]["labels"][TURN_LABEL] == "4"
    assert open_gate_of(pod(world))


async def test_the_pod_of_a_later_turn_is_not_deleted() -> None:
    """A launcher that was paused reads the Lease before it deletes."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    uid = pod(world)["metadata"]["uid"]
    await started(world, runtime, turn=3)
    assert pod(world)["metadata"]["uid"] == uid


async def test_a_foreign_pod_is_left_unchanged_and_reported() -> None:
    """With its kind and the remedy."""
    world, runtime = a_world(a_start())
    world.put("pods", {"metadata": {"name": "llama-0", "uid": "foreign"}, "spec": {}})
    await started(world, runtime)
    assert pod(world)["metadata"]["uid"] == "foreign"
    assert ready_of(world) == ("False", Reason.NAME_TAKEN, 0)
    assert "kubectl delete pod llama-0 -n default" in ready_message(world)


async def test_a_foreign_service_is_left_unchanged_and_reported() -> None:
    """The Model's name is taken."""
    world, runtime = a_world(a_start("Accepted"))
    world.put("services", {"metadata": {"name": "llama"}, "spec": {}})
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 5.0, settings=SETTINGS) if isinstance(a, Expose)]
    await perform(runtime, action)
    assert ready_of(world) == ("False", Reason.NAME_TAKEN, 0)


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


async def test_the_service_follows_the_spec() -> None:
    """Annotations of FlexInfer that no longer apply are removed, those of others stay."""
    model = a_start("Accepted")
    labelled = msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, service_labels=("fast",))
    )
    world, runtime = a_world(labelled)
    await settled(world, runtime)
    service = world.find("services", "llama")
    assert service is not None
    assert service["spec"]["externalName"] == "flexinfer-proxy.flexinfer-system.svc.cluster.local"
    assert service["metadata"]["annotations"][SERVICE_LABELS_ANNOTATION] == "fast"
    world.touch("services", "llama", lambda s: s["metadata"]["annotations"].update(mine="stays"))
    world.touch(
        "models", "llama", lambda m: (m["spec"].pop("serviceLabels"), m["metadata"].update(generation=2))
    )
    for condition in there(world).status.conditions:
        assert condition.type in (conditions.ACCEPTED, conditions.READY)
    world.touch("models", "llama", lambda m: m["status"]["conditions"][0].update(observedGeneration=2))
    await settled(world, runtime)
    notes = (world.find("services", "llama") or {})["metadata"]["annotations"]
    assert SERVICE_LABELS_ANNOTATION not in notes
    assert notes["mine"] == "stays"


async def test_a_foreign_finalizer_stays() -> None:
    """One is added, none is replaced."""
    world, runtime = a_world(a_start(finalizers=("example.com/other",)))
    await started(world, runtime)
    assert there(world).metadata.finalizers == ("example.com/other", RUNNING_FINALIZER)


# --- stopping


async def stop(world: World, runtime: Runtime) -> list[Any]:
    """Decide on the Model as it stands, and perform the stop."""
    state = observed(world)
    [action] = [a for a in decide(state, Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)]
    return list(await perform(runtime, action))


def observed(world: World, previous: ObservedState | None = None) -> ObservedState:
    """Return the state as the watcher would publish it now; what the launcher itself has read stays."""
    pods = [
        pod_facts(msgspec.convert(thing, PODS.type))
        for (plural, *_), thing in world.things.items()
        if plural == "pods"
    ]
    leases = [thing for (plural, *_), thing in world.things.items() if plural == "leases"]
    lease = None
    if leases:
        notes = leases[0]["metadata"]["annotations"]
        holder = leases[0]["spec"].get("holderIdentity", "//").split("/")
        lease = GroupLease(
            namespace="default", group="card", version=int(leases[0]["metadata"]["resourceVersion"]),
            holder=holder[1], holder_uid=holder[2], step=notes["flexinfer.ai/step"], turn=int(notes["flexinfer.ai/turn"]),
        )  # fmt: skip
    seen: list[Any] = [
        events.WorkloadObserved(namespace="default", name="llama", pods=tuple(pods), lease=lease)
    ]
    if world.find("models", "llama") is not None:
        seen.append(events.ModelObserved(model=there(world)))
    return apply_events(
        previous or ObservedState(connected_since=0.0), [Observation(event, 0.0) for event in seen]
    )


def idle(world: World) -> None:
    """Let the reaper scale it to zero."""

    def change(model: Any) -> None:
        wanted = next(c for c in model["status"]["conditions"] if c["type"] == conditions.WANTED)
        wanted.update(status="False", reason=Reason.IDLE)

    world.touch("models", "llama", change)


async def test_a_stop_writes_stopped_once_no_pod_is_left() -> None:
    """And not before: the Pod terminates for its grace period."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    world.lingering = True
    lists = iter(range(100))

    def terminates(call: str) -> None:
        if call == "list pods" and next(lists) == 2:
            world.end_pods()

    world.between = terminates
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)
    assert world.calls.count("list pods") == 3
    assert world.find("pods", "llama-0") is None


async def test_a_stop_reads_the_lease_first_and_lists_last() -> None:
    """A release that begins after the first read must see a stop of its own."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    world.lease(granted(step=RELEASING))
    world.calls.clear()
    await stop(world, runtime)
    assert world.calls == ["get leases", "get models", "delete pods", "list pods", "apply models"]


async def test_a_start_reads_only_after_its_pod_exists() -> None:
    """A release that these reads miss finds the Pod and deletes it."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    assert sorted(world.calls[:2]) == ["create pods", "patch models"]
    assert sorted(world.calls[2:4]) == ["get leases", "get models"]
    assert world.calls[4:] == ["patch pods"]


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


async def test_a_turn_asked_back_is_returned_with_the_status() -> None:
    """The Lease, read before the stop, said Releasing for this uid."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    world.lease(granted(step=RELEASING))
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)


async def test_a_turn_asked_back_in_the_middle_of_a_stop_is_not_returned_by_it() -> None:
    """That stop began before; the next one returns it, though nothing runs."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    idle(world)
    world.between = lambda call: world.lease(granted(step=RELEASING)) if call == "list pods" else None
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 0)
    await stop(world, runtime)
    assert ready_of(world) == ("False", Reason.STOPPED, 4)


def a_stuck_pod(world: World, node: str = "") -> None:
    """Let the Pod terminate without end."""
    world.lingering = True
    world.touch("pods", "llama-0", lambda p: p["metadata"].update(finalizers=["example.com/hold"]))
    world.touch("pods", "llama-0", lambda p: p["spec"].update(nodeName=node))


def with_virtual_time(world: World) -> Runtime:
    """Return a runtime whose clock only sleeping moves."""
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    return a_runtime("launcher", cluster=world, clock=lambda: clock[0], sleep=sleep)


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
        "see kubectl describe pod llama-0 -n default; remove what its finalizers wait for; "
        "if node a is lost, delete it: kubectl delete node a"
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
    world.lease(granted())
    await started(world, runtime, turn=4)
    world.lease(granted(step=RELEASING))
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


def deleted(world: World) -> None:
    """Ask for the Model's deletion."""
    world.touch("models", "llama", lambda m: m["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"))


async def test_a_deleted_model_is_removed_after_its_pods() -> None:
    """The finalizer outlives them."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    deleted(world)
    replies = await stop(world, runtime)
    assert world.find("pods", "llama-0") is None
    assert world.find("models", "llama") is None
    assert any(isinstance(r, events.ModelDeleted) for r in replies)


async def test_a_finalizer_stays_when_the_model_was_written_after_the_read() -> None:
    """By the resourceVersion read before the list, so that nothing between the two is lost."""
    world, runtime = a_world(a_start(*IDLE, finalizers=(RUNNING_FINALIZER,), deletion_timestamp="x"))
    world.between = lambda call: (
        world.touch("models", "llama", lambda _m: None) if call == "list pods" else None
    )
    with pytest.raises(ConflictError):
        await stop(world, runtime)
    assert RUNNING_FINALIZER in there(world).metadata.finalizers


# --- cut off at any call


async def settled(world: World, runtime: Runtime, ready: bool = False) -> None:  # noqa: FBT001, FBT002
    """Decide and perform until nothing is left to do; `ready` lets the engine answer."""
    state, memory = observed(world), Memory()
    for _ in range(40):
        state = observed(world, state)
        if ready and (running := world.find("pods", "llama-0")) and open_gate_of(running):
            memory = fold(memory, answering(running), 0.0)
        todo = [
            a
            for a in decide(state, memory, 1e6, settings=SETTINGS)
            if isinstance(a, Start | Stop | Expose | Announce | WriteStatus)
        ]
        if not todo:
            return
        for action in todo:
            for reply in await replies_of(runtime, action):
                if isinstance(reply, EngineProbed):
                    memory = fold(memory, reply, 0.0)
                else:
                    state = apply_events(state, [Observation(reply, 0.0)])
    raise AssertionError("it does not come to rest")


def answering(running: dict[str, Any]) -> EngineProbed:
    """Return the answer of the engine of a Pod, which runs by now."""
    facts = pod_facts(msgspec.convert(running, PODS.type))
    facts = msgspec.structs.replace(facts, node="a", ip="127.0.0.9", running=True)
    return EngineProbed(uid="uid-llama", pod_uid=facts.uid, healthy=True, pod=facts)


async def replies_of(runtime: Runtime, action: Effect | WriteStatus) -> Sequence[Any]:
    """Perform an action; a conflict is decided on again."""
    try:
        if isinstance(action, WriteStatus):
            return await write_status(runtime, action)
        return await perform(runtime, action)
    except ConflictError:
        return ()


@pytest.mark.parametrize("cut", range(12))
async def test_a_start_cut_off_at_any_call_is_completed_by_the_successor(cut: int) -> None:
    """One Pod, its gate open, Ready; whatever was done when the process ended."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    world.cut = cut
    try:
        await settled(world, runtime, ready=True)
    except* CutOffError:
        pass
    world.cut = -1
    await settled(world, runtime, ready=True)
    assert open_gate_of(pod(world))
    assert ready_of(world)[:2] == ("True", Reason.READY)


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


async def test_the_proxies_get_a_hint_once_the_model_is_ready() -> None:
    """A hint after the write, never before it."""
    world, runtime = a_world(a_start())
    await settled(world, runtime, ready=True)
    assert isinstance(runtime.bus, ListBus)
    hints = [e for e in runtime.bus.told if isinstance(e, events.EngineReady)]
    assert [h.uid for h in hints] == ["uid-llama"]
    assert (await world.get(MODELS, "default", "llama")).condition(conditions.READY) is not None
