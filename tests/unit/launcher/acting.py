"""The launcher's effects in a small world: a Model, what is performed on it, and what it says then."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Gpu, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, SharedGroup
from flexinfer.events import events
from flexinfer.events.workload import pod_facts
from flexinfer.launcher import decide as deciding
from flexinfer.launcher.effects import Announce, Effect, Expose, Start, Stop
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.memory import EngineProbed, Memory, remember
from flexinfer.launcher.perform import perform as perform_effect
from flexinfer.launcher.pods_gone import PodsGone
from flexinfer.launcher.start_settings import settings_of
from flexinfer.runtime.kubernetes.api import PODS, ConflictError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import a_group, a_holder
from tests.keyed import on_all_models
from tests.runtimes import a_runtime
from tests.unit.launcher.models import a_start, starting
from tests.unit.launcher.world import World, open_gate_of

decide = on_all_models(deciding.decide)

SHARED = Gpu(vendor="nvidia", shared="card")
SETTINGS = settings_of(Settings())


async def perform(
    runtime: Runtime, action: Effect, gone: PodsGone | None = None, fences: Fences | None = None
) -> Sequence[Any]:
    """Perform an effect with the settings of these tests; as a process that has just started unless its `fences` are given."""
    return await perform_effect(
        runtime, action, settings=SETTINGS, pod_deletions=gone or PodsGone(), fences=fences or Fences()
    )


def a_world(model: Model) -> tuple[World, Runtime]:
    """Return a world that holds one Model, and the launcher's runtime in it."""
    world = World()
    world.put("models", msgspec.to_builtins(model))
    return world, a_runtime("launcher", cluster=world)


def there(world: World, name: str = "llama") -> Model:
    """Return the Model as the API holds it."""
    return msgspec.convert(world.find("models", name), Model)


def granted(turn: int = 4, step: str = GRANTED, holder: str = "uid-llama") -> SharedGroup:
    """Return the SharedGroup of the group `card`, held by llama."""
    return a_group(a_holder(uid=holder, step=step, turn=turn))


def a_member(*gates: Any, turn: int = 4, **changes: Any) -> Model:
    """Return a Model that shares the card and has its turn in its status."""
    return a_start(
        *gates, gpu=SHARED, shared_group=GroupMembership(group="card", state="Holding", turn=turn), **changes
    )


async def started(world: World, runtime: Runtime, turn: int = 0) -> list[Any]:
    """Perform one start of the Model as it stands."""
    return list(await perform(runtime, starting(there(world), turn, SETTINGS)))


def ready_of(world: World) -> tuple[str, str, int]:
    """Return what Ready says, and the turn that is given back beside it."""
    model = there(world)
    ready, backend = model.condition(conditions.READY), model.status.backend
    turn = backend.turn if backend and not backend.pod_uid else 0
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
    groups = [
        msgspec.convert(thing, SharedGroup)
        for (plural, *_), thing in world.things.items()
        if plural == "sharedgroups"
    ]
    seen: list[Any] = [events.WorkloadObserved(namespace="default", name="llama", pods=tuple(pods))]
    seen += [events.GroupObserved(group=group) for group in groups]
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


def a_stuck_pod(world: World, node: str = "") -> None:
    """Let the Pod terminate without end."""
    world.lingering = True
    world.touch("pods", "llama-0", lambda p: p["metadata"].update(finalizers=["example.com/hold"]))
    world.touch("pods", "llama-0", lambda p: p["spec"].update(nodeName=node))


def with_virtual_time(world: World) -> Runtime:
    """Return a runtime whose clock moves only by `sleep`."""
    clock = [0.0]

    async def sleep(seconds: float) -> None:
        clock[0] += seconds

    return a_runtime("launcher", cluster=world, clock=lambda: clock[0], sleep=sleep)


def deleted(world: World) -> None:
    """Ask for the Model's deletion."""
    world.touch("models", "llama", lambda m: m["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"))


async def settled(world: World, runtime: Runtime, ready: bool = False) -> None:  # noqa: FBT001, FBT002
    """Decide and perform until nothing is left to do; `ready` lets the engine answer."""
    state, memory = observed(world), Memory()
    for _ in range(40):
        state = observed(world, state)
        if ready and (running := world.find("pods", "llama-0")) and open_gate_of(running):
            memory = remember(memory, answering(running), 0.0)
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
                    memory = remember(memory, reply, 0.0)
                else:
                    state = apply_events(state, [Observation(reply, 0.0)])
    raise AssertionError("it does not settle")


def answering(running: dict[str, Any]) -> EngineProbed:
    """Return the answer of the engine of a Pod, which runs by now."""
    facts = pod_facts(msgspec.convert(running, PODS.type))
    facts = msgspec.structs.replace(facts, node="a", ip="127.0.0.9", running=True)
    return EngineProbed(key="default/llama", uid="uid-llama", pod_uid=facts.uid, healthy=True, pod=facts)


async def replies_of(runtime: Runtime, action: Effect | WriteStatus) -> Sequence[Any]:
    """Perform an action; a conflict is decided on again."""
    try:
        if isinstance(action, WriteStatus):
            return await write_status(runtime, action)
        return await perform(runtime, action)
    except ConflictError:
        return ()
