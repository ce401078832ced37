"""The control loop: applies events, decides on the whole state, performs one action at a time per key.

In virtual time.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.control_loop import run_controller
from flexinfer.runtime.controller import Controller, Remember, stateless
from flexinfer.runtime.kubernetes.api import ConflictError, Kind, UnavailableError
from flexinfer.runtime.runtime import Disconnected, Runtime, Snapshot, Subscriptions
from flexinfer.state.actions import RequeueAt
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import a_model
from tests.runtimes import ListBus, a_runtime
from tests.simulation.loop import run


class Poke(msgspec.Struct, frozen=True):
    """An effect for tests."""

    key: str
    what: str


class Learned(msgspec.Struct, frozen=True):
    """A fact of the component's own."""

    what: str


class Recorder:
    """A component whose decision a test scripts and whose effects it counts."""

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.decided: list[tuple[float, ObservedState]] = []
        self.performed: list[tuple[float, str]] = []
        self.in_flight: list[str] = []
        self.most_at_once = 0
        self.seconds = 1.0
        self.fails: list[Exception] = []

    def decide(self, state: ObservedState, now: float) -> Iterator[Any]:
        """Yield the script."""
        self.decided.append((now, state))
        yield from self.script

    async def perform(self, runtime: Runtime, action: Poke) -> Sequence[AnyEvent]:
        """Take a second."""
        self.performed.append((runtime.clock(), action.what))
        self.in_flight.append(action.key)
        self.most_at_once = max(self.most_at_once, self.in_flight.count(action.key))
        await runtime.sleep(self.seconds)
        self.in_flight.remove(action.key)
        if self.fails:
            raise self.fails.pop(0)
        return []

    def controller(self) -> Controller[Poke, AnyEvent, None]:
        """Return it as a controller without memory."""
        return Controller(
            name="test",
            decide=stateless(self.decide),
            perform=self.perform,
            subscriptions=Subscriptions(),
            memory=None,
        )


async def run_for(recorder: Recorder, seconds: float, *, runtime: Runtime, bus: ListBus) -> None:
    """Run the recorder for some virtual seconds after an empty snapshot."""
    bus.queue.put_nowait(Snapshot([]))
    task = asyncio.create_task(run_controller(runtime, recorder.controller()))
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def after(recorder: Recorder, seconds: float, *deliveries: Any, **parts: Any) -> Recorder:
    """Return the recorder after it ran."""

    async def main() -> None:
        bus = ListBus()
        runtime = a_runtime(bus=bus, **parts)
        for delivery in deliveries:
            bus.queue.put_nowait(delivery)
        await run_for(recorder, seconds, runtime=runtime, bus=bus)

    run(main())
    return recorder


def test_nothing_is_decided_before_the_replay_has_ended() -> None:
    """Ready means that the replay is complete."""

    async def main() -> Recorder:
        recorder = Recorder()
        ready: list[bool] = []
        bus = ListBus()
        runtime = a_runtime(bus=bus, set_ready=ready.append)
        bus.queue.put_nowait(Observation(events.ModelObserved(model=a_model()), 0.0))
        task = asyncio.create_task(run_controller(runtime, recorder.controller()))
        await asyncio.sleep(5)
        assert not recorder.decided
        assert not ready
        bus.queue.put_nowait(Snapshot([]))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert ready == [True]
        return recorder

    assert run(main()).decided


def test_what_arrives_together_is_decided_together() -> None:
    """A batch is applied whole."""
    batch = [Observation(events.ModelObserved(model=a_model(n)), 0.0) for n in "abc"]
    recorder = after(Recorder(), 1.0, Snapshot([]), *batch)
    assert len(recorder.decided[0][1].models) == 0 or len(recorder.decided[0][1].models) == 3
    assert len(recorder.decided[-1][1].models) == 0  # the snapshot that came last replaced the state


def test_actions_of_one_key_never_overlap() -> None:
    """Those of another key do not wait for them."""
    recorder = after(Recorder(Poke("a", "one"), Poke("a", "two"), Poke("b", "three")), 0.5)
    assert recorder.most_at_once == 1
    assert [what for _, what in recorder.performed] == ["one", "three"]


def test_the_same_action_again_waits_longer_each_time() -> None:
    """An effect that changes nothing does not become a storm."""
    recorder = Recorder(Poke("a", "again"))
    recorder.seconds = 0.0
    after(recorder, 60.0)
    times = [when for when, _ in recorder.performed]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps == sorted(gaps)
    assert len(times) < 15


def test_a_deadline_brings_another_decision() -> None:
    """Time is an argument: a decision names the time at which it must be made again."""
    recorder = after(Recorder(RequeueAt(7.0)), 8.0)
    assert 7.0 in [now for now, _ in recorder.decided]


def test_an_unavailable_api_server_is_retried() -> None:
    """An outage is no failure of the component."""
    recorder = Recorder(Poke("a", "x"))
    recorder.fails = [UnavailableError("no answer"), UnavailableError("no answer")]
    after(recorder, 10.0)
    assert len(recorder.performed) > 2


class OneModel:
    """A cluster that answers GETs with one Model."""

    def __init__(self, model: Any) -> None:
        self.model, self.gets = model, 0

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Any:
        """Return the Model."""
        self.gets += 1
        return self.model


def test_a_conflict_is_answered_by_reading_the_model() -> None:
    """The newer Model is applied and the decision repeated."""
    recorder = Recorder(Poke("default/llama", "x"))
    recorder.fails = [ConflictError("modified", 409)]
    cluster = OneModel(a_model(version=9))
    old = Snapshot([Observation(events.ModelObserved(model=a_model(version=1)), 0.0)])

    async def main() -> None:
        bus = ListBus()
        runtime = a_runtime(bus=bus, cluster=cluster)
        bus.queue.put_nowait(old)
        task = asyncio.create_task(run_controller(runtime, recorder.controller()))
        await asyncio.sleep(3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert recorder.decided[-1][1].models["default/llama"].metadata.version == 9


def test_a_hint_leads_to_one_read_unless_its_version_is_known() -> None:
    """The next component need not wait for the watcher."""
    cluster = OneModel(a_model(version=9))
    hint = events.StatusChanged(owner="placer", namespace="default", name="llama", uid="uid-llama", version=9)

    async def main() -> Recorder:
        recorder, bus = Recorder(), ListBus()
        runtime = a_runtime(bus=bus, cluster=cluster)
        bus.queue.put_nowait(Snapshot([]))
        task = asyncio.create_task(run_controller(runtime, recorder.controller()))
        for _ in range(3):
            bus.queue.put_nowait(Observation(hint, 0.0))
            await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    recorder = run(main())
    assert cluster.gets == 1
    assert recorder.decided[-1][1].models["default/llama"].metadata.version == 9


def test_without_its_lease_a_replica_decides_nothing() -> None:
    """A second replica is a standby."""
    recorder = after(Recorder(Poke("a", "x")), 5.0, is_leader=lambda: False)
    assert not recorder.performed


def test_a_replica_acts_as_soon_as_it_becomes_the_leader() -> None:
    """It waits for no poll."""

    async def main() -> Recorder:
        recorder, bus, elected = Recorder(Poke("a", "x")), ListBus(), asyncio.Condition()
        leads = False

        async def next_time() -> None:
            async with elected:
                await elected.wait()

        bus.queue.put_nowait(Snapshot([]))
        runtime = a_runtime(bus=bus, is_leader=lambda: leads, became_leader=next_time)
        task = asyncio.create_task(run_controller(runtime, recorder.controller()))
        await asyncio.sleep(0.3)
        leads = True
        async with elected:
            elected.notify_all()
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    assert run(main()).performed == [(0.3, "x")]


def test_a_decision_knows_that_nats_is_disconnected() -> None:
    """Silence is not idleness: the reaper must tell the two apart."""

    async def main() -> Recorder:
        recorder, bus = Recorder(), ListBus()
        bus.queue.put_nowait(Snapshot([]))
        task = asyncio.create_task(run_controller(a_runtime(bus=bus), recorder.controller()))
        await asyncio.sleep(1)
        bus.queue.put_nowait(Disconnected())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    decided = run(main()).decided
    assert decided[0][1].connected_since == 0.0
    assert decided[-1][1].connected_since is None


def test_facts_of_the_component_are_folded_into_its_memory_and_forgotten_with_the_model() -> None:
    """What an effect and a companion learn; events among the replies are applied to the shared state."""

    async def learn(runtime: Runtime, action: Poke) -> Sequence[AnyEvent | Learned]:
        return [Learned(action.what), events.ModelObserved(model=a_model(version=2))]

    async def companion(_runtime: Runtime, remember: Remember[Learned]) -> None:
        remember(Learned("beside"))

    seen: list[tuple[tuple[str, ...], int]] = []

    def decide(state: ObservedState, memory: tuple[str, ...], _now: float) -> Iterator[Poke]:
        seen.append((memory, len(state.models)))
        if "effect" not in memory:
            yield Poke("a", "effect")

    controller = Controller[Poke, Learned, tuple[str, ...]](
        name="test",
        decide=decide,
        perform=learn,
        subscriptions=Subscriptions(),
        memory=(),
        remember=lambda memory, fact, _at: (*memory, fact.what),
        forget=lambda memory, uids: memory if uids else (),
        companions=(companion,),
    )

    async def main() -> None:
        bus = ListBus()
        bus.queue.put_nowait(Snapshot([]))
        task = asyncio.create_task(run_controller(a_runtime(bus=bus), controller))
        await asyncio.sleep(1)
        gone = events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=3)
        bus.queue.put_nowait(Observation(gone, 1.0))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert (("beside", "effect"), 1) in seen or (("effect",), 1) in seen
    assert seen[-1][1] == 0
