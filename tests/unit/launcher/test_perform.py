"""The launcher's effects: what they read before they act, and that a death at any call loses nothing."""

from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER, SERVICE_LABELS_ANNOTATION, TURN_LABEL
from flexinfer.api.model import Gpu, Model, SharedGroup
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import GRANTED, RELEASING, GroupLease, pod_facts
from flexinfer.launcher.decide import Announce, Expose, Start, Stop, decide
from flexinfer.launcher.perform import perform, settings_of
from flexinfer.runtime.kubernetes.api import MODELS, PODS, ConflictError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.runtimes import ListBus, a_runtime
from tests.unit.launcher.models import ASLEEP, a_start
from tests.unit.launcher.world import SawnOffError, World, open_gate_of

SHARED = Gpu(vendor="nvidia", shared="card")
TERMS = settings_of(Settings())


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


def a_member(*said: Any, turn: int = 4, **changes: Any) -> Model:
    """Return a Model that shares the card and has been told of its turn."""
    return a_start(*said, gpu=SHARED, shared_group=SharedGroup(group="card", turn=turn), **changes)


async def started(world: World, runtime: Runtime, turn: int = 0) -> list[Any]:
    """Perform one start of the Model as it stands."""
    return list(await perform(runtime, ObservedState(), Start(model=there(world), turn=turn)))


def said(world: World) -> tuple[str, str, int]:
    """Return what Ready says, and the turn beside it."""
    model = there(world)
    ready = model.condition(conditions.READY)
    turn = model.status.backend.turn if model.status.backend else 0
    return (ready.status, ready.reason, turn) if ready else ("", "", turn)


def pod(world: World) -> dict[str, Any]:
    """Return the Pod, which must be there."""
    found = world.find("pods", "llama-0")
    assert found is not None
    return found


async def test_a_start_puts_the_finalizer_on_and_opens_the_gate() -> None:
    """In one go: three round trips."""
    world, runtime = a_world(a_start())
    replies = await started(world, runtime)
    assert RUNNING_FINALIZER in there(world).metadata.finalizers
    assert open_gate_of(pod(world))
    assert any(isinstance(r, events.EngineProbed) and r.pod and not r.pod.gates for r in replies)
    assert sorted(world.calls[:2]) == ["create pods", "patch models"]


async def test_the_gate_stays_closed_for_a_model_that_is_no_longer_wanted() -> None:
    """What was decided is read again before it counts."""
    world, runtime = a_world(a_start())

    def falls_asleep(call: str) -> None:
        if call == "get models":
            world.put("models", msgspec.to_builtins(a_start(*ASLEEP, finalizers=(RUNNING_FINALIZER,))))

    world.between = falls_asleep
    await started(world, runtime)
    assert not open_gate_of(pod(world))


@pytest.mark.parametrize(
    "lease",
    [
        pytest.param(None, id="no Lease"),
        pytest.param(granted(turn=5), id="a later turn"),
        pytest.param(granted(step=RELEASING), id="asked back"),
        pytest.param(granted(holder="somebody"), id="another holder"),
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


async def test_a_pod_deleted_after_the_look_refuses_the_gate() -> None:
    """A release that begins after the reads wins, whatever any clock says."""
    world, runtime = a_world(a_member())
    world.lease(granted())

    def deletes(call: str) -> None:
        if call == "patch pods":
            former = world.things.pop(("pods", "default", "llama-0"))
            former["metadata"] = {k: v for k, v in former["metadata"].items() if k != "uid"}
            world.put("pods", former)

    world.between = deletes
    with pytest.raises(ConflictError):
        await started(world, runtime, turn=4)
    assert not open_gate_of(pod(world))


async def test_a_gated_pod_of_a_former_turn_makes_room() -> None:
    """Only after reads that still grant this turn; the next try makes the right one."""
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


async def test_the_pod_of_a_later_turn_is_not_ours_to_delete() -> None:
    """A launcher that woke from a pause reads the Lease before it condemns."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    uid = pod(world)["metadata"]["uid"]
    await started(world, runtime, turn=3)
    assert pod(world)["metadata"]["uid"] == uid


async def test_a_foreign_pod_is_left_alone_and_said() -> None:
    """With its kind and the remedy."""
    world, runtime = a_world(a_start())
    world.put("pods", {"metadata": {"name": "llama-0", "uid": "foreign"}, "spec": {}})
    await started(world, runtime)
    assert pod(world)["metadata"]["uid"] == "foreign"
    assert said(world) == ("False", Reason.NAME_TAKEN, 0)
    ready = there(world).condition(conditions.READY)
    assert ready is not None
    assert "kubectl delete pod llama-0" in ready.message


async def test_a_foreign_service_is_left_alone_and_said() -> None:
    """The Model's name is taken."""
    world, runtime = a_world(a_start("Accepted"))
    world.put("services", {"metadata": {"name": "llama"}, "spec": {}})
    state = known(world)
    [action] = [a for a in decide(state, 5.0, settings=TERMS) if isinstance(a, Expose)]
    await perform(runtime, state, action)
    assert said(world) == ("False", Reason.NAME_TAKEN, 0)


async def test_the_service_follows_the_spec() -> None:
    """Annotations of ours that are no longer wanted go, those of others stay."""
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


async def test_a_foreign_finalizer_survives_ours() -> None:
    """Ours is added, nobody's is replaced."""
    world, runtime = a_world(a_start(finalizers=("somebody/else",)))
    await started(world, runtime)
    assert there(world).metadata.finalizers == ("somebody/else", RUNNING_FINALIZER)


# --- stopping


async def stopped(world: World, runtime: Runtime) -> list[Any]:
    """Decide on the Model as it stands, and perform the stop."""
    state = known(world)
    [action] = [a for a in decide(state, 1e6, settings=TERMS) if isinstance(a, Stop)]
    return list(await perform(runtime, state, action))


def known(world: World, former: ObservedState | None = None) -> ObservedState:
    """Return the fleet as a watcher would tell it now; what the launcher itself has seen stays."""
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
    told: list[Any] = [
        events.WorkloadObserved(namespace="default", name="llama", pods=tuple(pods), lease=lease)
    ]
    if world.find("models", "llama") is not None:
        told.append(events.ModelObserved(model=there(world)))
    return apply_events(former or ObservedState(connected=0.0), [Observation(event, 0.0) for event in told])


def sleeping(world: World) -> None:
    """Let the reaper decide that nobody wants it."""

    def change(model: Any) -> None:
        wanted = next(c for c in model["status"]["conditions"] if c["type"] == conditions.WANTED)
        wanted.update(status="False", reason=Reason.IDLE)

    world.touch("models", "llama", change)


async def test_a_stop_says_stopped_once_nothing_is_left() -> None:
    """And not before: the Pod lingers for its grace."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    sleeping(world)
    world.lingering = True
    looks = iter(range(100))

    def lets_go(call: str) -> None:
        if call == "list pods" and next(looks) == 2:
            world.end_pods()

    world.between = lets_go
    await stopped(world, runtime)
    assert said(world) == ("False", Reason.STOPPED, 0)
    assert world.calls.count("list pods") == 3
    assert world.find("pods", "llama-0") is None


async def test_a_stop_that_is_no_longer_right_deletes_nothing() -> None:
    """Somebody asked meanwhile."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    sleeping(world)
    state = known(world)
    [action] = [a for a in decide(state, 1e6, settings=TERMS) if isinstance(a, Stop)]
    world.put("models", msgspec.to_builtins(a_start(finalizers=(RUNNING_FINALIZER,))))
    await perform(runtime, state, action)
    assert pod(world)


async def test_a_stop_never_deletes_a_pod_that_it_did_not_know() -> None:
    """The Pod of a new start under the same name is decided on anew."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    sleeping(world)
    state = known(world)
    [action] = [a for a in decide(state, 1e6, settings=TERMS) if isinstance(a, Stop)]
    newer = world.things.pop(("pods", "default", "llama-0"))
    newer["metadata"]["uid"] = "newer"
    world.put("pods", newer)
    await perform(runtime, state, action)
    assert pod(world)["metadata"]["uid"] == "newer"
    assert said(world)[1] != Reason.STOPPED


async def test_a_turn_asked_back_is_returned_with_the_report() -> None:
    """The Lease, read before the stop, said Releasing for this uid."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    world.lease(granted(step=RELEASING))
    await stopped(world, runtime)
    assert said(world) == ("False", Reason.STOPPED, 4)


async def test_a_turn_asked_back_in_the_middle_of_a_stop_is_not_returned_by_it() -> None:
    """Such a stop began before it was asked; the next one returns it, though nothing runs."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    await started(world, runtime, turn=4)
    sleeping(world)
    world.between = lambda call: world.lease(granted(step=RELEASING)) if call == "list pods" else None
    await stopped(world, runtime)
    assert said(world) == ("False", Reason.STOPPED, 0)
    await stopped(world, runtime)
    assert said(world) == ("False", Reason.STOPPED, 4)


def deleted(world: World) -> None:
    """Ask for the Model's deletion."""
    world.touch("models", "llama", lambda m: m["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"))


async def test_a_deleted_model_goes_after_its_pods() -> None:
    """The finalizer outlives them."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    deleted(world)
    replies = await stopped(world, runtime)
    assert world.find("pods", "llama-0") is None
    assert world.find("models", "llama") is None
    assert any(isinstance(r, events.ModelDeleted) for r in replies)


async def test_a_finalizer_stays_when_the_model_was_written_after_the_look() -> None:
    """By the resourceVersion read before the list, so that nothing slips between."""
    world, runtime = a_world(a_start(*ASLEEP, finalizers=(RUNNING_FINALIZER,), deletion_timestamp="x"))
    world.between = lambda call: (
        world.touch("models", "llama", lambda _m: None) if call == "list pods" else None
    )
    with pytest.raises(ConflictError):
        await stopped(world, runtime)
    assert RUNNING_FINALIZER in there(world).metadata.finalizers


# --- death at any call


async def settled(world: World, runtime: Runtime, ready: bool = False) -> None:  # noqa: FBT001, FBT002
    """Decide and perform until nothing is left to do; `ready` lets the engine answer."""
    state = known(world)
    for _ in range(40):
        state = known(world, state)
        if ready and (running := world.find("pods", "llama-0")) and open_gate_of(running):
            facts = msgspec.structs.replace(
                pod_facts(msgspec.convert(running, PODS.type)), node="a", ip="127.0.0.9", running=True
            )
            probe = events.EngineProbed(key="default/llama", pod_uid=facts.uid, healthy=True, pod=facts)
            state = apply_events(state, [Observation(probe, 0.0)])
        todo = [
            a
            for a in decide(state, 1e6, settings=TERMS)
            if isinstance(a, Start | Stop | Expose | Announce | WriteStatus)
        ]
        if not todo:
            return
        for action in todo:
            try:
                if isinstance(action, WriteStatus):
                    replies: Any = await write_status(runtime, action)
                else:
                    replies = await perform(runtime, state, action)
            except ConflictError:
                replies = ()
            state = apply_events(state, [Observation(event, 0.0) for event in replies])
    raise AssertionError("it does not come to rest")


@pytest.mark.parametrize("cut", range(12))
async def test_a_start_cut_off_at_any_call_is_finished_by_the_successor(cut: int) -> None:
    """One Pod, its gate open, Ready; whatever was done when the process died."""
    world, runtime = a_world(a_member())
    world.lease(granted())
    world.cut = cut
    try:
        await settled(world, runtime, ready=True)
    except* SawnOffError:
        pass
    world.cut = -1
    await settled(world, runtime, ready=True)
    assert open_gate_of(pod(world))
    assert said(world)[:2] == ("True", Reason.READY)


@pytest.mark.parametrize("cut", range(10))
async def test_a_deletion_cut_off_at_any_call_is_finished_by_the_successor(cut: int) -> None:
    """Nothing is left, neither Pod nor Model."""
    world, runtime = a_world(a_start())
    await settled(world, runtime, ready=True)
    deleted(world)
    world.cut = cut
    try:
        await settled(world, runtime)
    except* SawnOffError:
        pass
    world.cut = -1
    await settled(world, runtime)
    assert world.find("models", "llama") is None
    assert world.find("pods", "llama-0") is None


async def test_the_proxies_hear_of_an_engine_once_its_model_says_ready() -> None:
    """A hint after the write, never before it."""
    world, runtime = a_world(a_start())
    await settled(world, runtime, ready=True)
    assert isinstance(runtime.bus, ListBus)
    hints = [e for e in runtime.bus.told if isinstance(e, events.EngineReady)]
    assert [h.uid for h in hints] == ["uid-llama"]
    assert (await world.get(MODELS, "default", "llama")).condition(conditions.READY) is not None
