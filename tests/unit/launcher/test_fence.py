"""A DELETE whose answer was lost arrives late: it reaches no engine that was started, or kept, since."""

from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import KEPT_ANNOTATION
from flexinfer.api.model import BackendStatus
from flexinfer.api.reasons import Reason
from flexinfer.api.status import ReadyStatus
from flexinfer.launcher.effects import Announce, Purpose, Stop
from flexinfer.launcher.fence import Fences
from flexinfer.runtime.kubernetes.api import PODS, ConflictError, Kind, UnavailableError
from flexinfer.runtime.runtime import Runtime
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus
from tests.runtimes import a_runtime
from tests.unit.launcher.acting import SETTINGS, idle, observed, perform, pod, ready_of, there
from tests.unit.launcher.models import a_start, starting
from tests.unit.launcher.world import World, open_gate_of


class SlowWorld(World):
    """Its next DELETE of a Pod is not answered in time, and arrives when `arrive` is called."""

    def __init__(self) -> None:
        super().__init__()
        self.late: dict[str, Any] | None = None
        self.loses = True

    async def delete(self, kind: Kind[Any], namespace: str, name: str, **options: Any) -> None:
        """Delete an object, or lose the request for a while."""
        if not self.loses:
            return await super().delete(kind, namespace, name, **options)
        self.late = options
        raise UnavailableError("no answer")

    async def arrive(self) -> None:
        """Let the lost DELETE arrive."""
        assert self.late is not None
        await super().delete(PODS, "default", "llama-0", **self.late)


def a_slow_world() -> tuple[SlowWorld, Runtime]:
    """Return a world with a Model that may run, and the launcher's runtime in it."""
    world = SlowWorld()
    world.put("models", msgspec.to_builtins(a_start()))
    return world, a_runtime("launcher", cluster=world)


def wanted_again(world: World) -> None:
    """Let a request arrive."""
    world.touch("models", "llama", lambda model: model.update(msgspec.to_builtins(a_start(finalizers=()))))


def stopping(world: World) -> Stop:
    """Return the stop of a Model that is scaled to zero, with the Pod as it was observed."""
    return Stop(
        model=there(world),
        pods=observed(world).workloads["default/llama"].pods,
        purpose=Purpose.STOP,
        cause="",
    )


def becoming_ready(world: World) -> Announce:
    """Return what tells the proxies that the engine serves."""
    model = there(world)
    condition = actions.true(model, conditions.READY, Reason.READY, "engine healthy")
    return Announce(
        write=WriteStatus(
            model=model, status=ReadyStatus(condition=condition, endpoint="", backend=BackendStatus())
        ),
        pod_uid=pod(world)["metadata"]["uid"],
    )


async def test_a_late_delete_does_not_reach_a_pod_whose_gate_was_opened_since() -> None:
    """The Pod was gated when the Model was scaled to zero; the next request took it as its own."""
    world, runtime = a_slow_world()
    world.between = lambda call: idle(world) if call == "create pods" else None
    await perform(runtime, starting(there(world), 0, SETTINGS))
    assert not open_gate_of(pod(world))
    world.between = lambda _call: None
    stop = stopping(world)
    with pytest.raises(UnavailableError):
        await perform(runtime, stop)
    wanted_again(world)
    await perform(runtime, starting(there(world), 0, SETTINGS))
    assert open_gate_of(pod(world))
    with pytest.raises(ConflictError):
        await world.arrive()
    assert pod(world)


async def test_a_late_delete_does_not_reach_a_pod_that_was_kept() -> None:
    """The Model was requested again before the stop was repeated: the Pod is written, then Ready is."""
    world, runtime = a_slow_world()
    fences = Fences()
    await perform(runtime, starting(there(world), 0, SETTINGS), fences=fences)
    idle(world)
    with pytest.raises(UnavailableError):
        await perform(runtime, stopping(world), fences=fences)
    wanted_again(world)
    world.calls.clear()
    await perform(runtime, becoming_ready(world), fences=fences)
    assert world.calls == ["merge pods", "apply models"]
    assert KEPT_ANNOTATION in pod(world)["metadata"]["annotations"]
    with pytest.raises(ConflictError):
        await world.arrive()
    assert ready_of(world)[0] == "True"


async def test_a_pod_that_this_process_opened_is_not_written_again() -> None:
    """A cold start costs no further call."""
    world, runtime = a_slow_world()
    fences = Fences()
    await perform(runtime, starting(there(world), 0, SETTINGS), fences=fences)
    world.calls.clear()
    await perform(runtime, becoming_ready(world), fences=fences)
    assert world.calls == ["apply models"]


async def test_an_engine_of_a_predecessor_is_written_before_it_becomes_ready() -> None:
    """What that process sent last is not known."""
    world, runtime = a_slow_world()
    await perform(runtime, starting(there(world), 0, SETTINGS))
    world.calls.clear()
    await perform(runtime, becoming_ready(world), fences=Fences())
    assert world.calls == ["merge pods", "apply models"]


async def test_a_pod_that_terminates_does_not_become_ready() -> None:
    """The late DELETE was faster."""
    world, runtime = a_slow_world()
    await perform(runtime, starting(there(world), 0, SETTINGS))
    world.lingering = True
    world.touch("pods", "llama-0", lambda p: p["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"))
    with pytest.raises(ConflictError):
        await perform(runtime, becoming_ready(world))
    assert ready_of(world)[0] != "True"


async def test_a_pod_that_is_written_while_it_is_deleted_is_deleted_all_the_same() -> None:
    """Its node reports on it at any moment: its version is read again."""
    world, runtime = a_slow_world()
    world.loses = False
    await perform(runtime, starting(there(world), 0, SETTINGS))
    idle(world)
    stop = stopping(world)
    world.touch("pods", "llama-0", lambda p: p.update(status={"phase": "Running"}))
    world.calls.clear()
    await perform(runtime, stop)
    assert world.calls[1:5] == ["delete pods", "get pods", "delete pods", "list pods"]
    assert world.find("pods", "llama-0") is None
