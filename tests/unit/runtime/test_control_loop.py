"""The control loop: applies events, decides on the whole state, performs one action at a time per key.

In virtual time.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from flexinfer.api.conditions import PLACED, Condition
from flexinfer.api.placement import Placement
from flexinfer.api.status import PlacedStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.control_loop import ControllerLoop, run_controller
from flexinfer.runtime.controller import (
    Controller,
    Remember,
    stateless,
)
from flexinfer.runtime.inbox import Finished
from flexinfer.runtime.kubernetes.api import ConflictError, Kind, UnavailableError
from flexinfer.runtime.runtime import Disconnected, Replaying, Runtime, Snapshot, Subscriptions
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus
from flexinfer.state.observed import Observation, ObservedState
from flexinfer.state.touched import touches_its_model
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
            decide=stateless(lambda state, _key, now: self.decide(state, now)),
            keys=lambda _state: ("*",),
            touched=lambda _before, _after, _event: ("*",),
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


class Silent(Recorder):
    """A component that acts on silence: at 5 s, if nothing that was sent by then contradicts it."""

    def decide(self, state: ObservedState, now: float) -> Iterator[Any]:
        """Yield an effect that is due."""
        self.decided.append((now, state))
        if now < 5.0:
            yield RequeueAt(5.0)
        elif state.caught_up_at < 5.0:
            yield CatchUp()
        elif not state.models:
            yield Poke("a", "silence")


class SlowBus(ListBus):
    """What was sent before `catch_up` arrives after it, and only then CaughtUp."""

    def __init__(self, *unread: Any) -> None:
        super().__init__()
        self.unread, self.asked = unread, 0

    def catch_up(self) -> None:
        """Deliver what is unread, then CaughtUp; a Snapshot comes in its place."""
        self.asked += 1
        for delivery in self.unread:
            self.queue.put_nowait(delivery)
        if not any(isinstance(delivery, Snapshot) for delivery in self.unread):
            super().catch_up()
        self.unread = ()


def silence(bus: SlowBus) -> list[str]:
    """Return what a component does first that has heard nothing for 5 s."""

    async def main() -> list[str]:
        recorder = Silent()
        await run_for(recorder, 10.0, runtime=a_runtime(bus=bus), bus=bus)
        return [what for _, what in recorder.performed[:1]]

    return run(main())


def test_what_was_sent_meanwhile_is_read_before_silence_counts() -> None:
    """As after a pause of the process: its timers are due at once, and its messages are not read yet."""
    assert silence(bus := SlowBus(Observation(events.ModelObserved(model=a_model()), 4.0))) == []
    assert bus.asked == 1
    assert silence(SlowBus()) == ["silence"]


def test_a_replay_in_place_of_what_was_asked_for_is_decided_on() -> None:
    """It may hold what contradicts the silence; if not, it is asked again."""
    assert silence(bus := SlowBus(Replaying(), Snapshot([]))) == ["silence"]
    assert bus.asked >= 2


def test_an_unavailable_api_server_is_retried() -> None:
    """An outage is not a failure of the component."""
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


def test_a_standby_follows_the_state_like_the_leader() -> None:
    """So that every replica can answer; nothing is followed before the state is complete."""
    followed: list[int] = []

    async def main() -> None:
        bus = ListBus()
        runtime = a_runtime(bus=bus, is_leader=lambda: False)
        controller = msgspec.structs.replace(
            Recorder().controller(), follow=lambda state: followed.append(len(state.models))
        )
        task = asyncio.create_task(run_controller(runtime, controller))
        bus.queue.put_nowait(Replaying())
        await asyncio.sleep(0.1)
        assert followed == []
        bus.queue.put_nowait(Snapshot([]))
        await asyncio.sleep(0.1)
        bus.queue.put_nowait(Observation(events.ModelObserved(model=a_model()), 0.0))
        await asyncio.sleep(0.1)
        task.cancel()

    run(main())
    assert followed == [0, 1]


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


@pytest.mark.parametrize("interruption", [Disconnected(), Replaying()])
def test_a_decision_knows_that_nothing_is_heard(interruption: Disconnected | Replaying) -> None:
    """Silence is not idleness: the reaper must tell the two apart, also while the streams are read again."""

    async def main() -> Recorder:
        recorder, bus = Recorder(), ListBus()
        bus.queue.put_nowait(Snapshot([]))
        task = asyncio.create_task(run_controller(a_runtime(bus=bus), recorder.controller()))
        await asyncio.sleep(1)
        bus.queue.put_nowait(interruption)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return recorder

    decided = run(main()).decided
    assert decided[0][1].connected_since == 0.0
    assert decided[-1][1].connected_since is None


GONE = events.ModelDeleted(namespace="default", name="llama", uid="uid-llama", version=3)


@pytest.mark.parametrize(
    "gone",
    [
        pytest.param(Observation(GONE, 1.0), id="its deletion is observed"),
        pytest.param(Snapshot([]), id="a replay does not hold it"),
    ],
)
def test_facts_of_the_component_are_folded_into_its_memory_and_forgotten_with_the_model(
    gone: Observation | Snapshot,
) -> None:
    """What an effect and a companion learn; events among the replies are applied to the shared state."""

    async def learn(runtime: Runtime, action: Poke) -> Sequence[AnyEvent | Learned]:
        return [Learned(action.what), events.ModelObserved(model=a_model(version=2))]

    async def companion(_runtime: Runtime, remember: Remember[Learned]) -> None:
        remember(Learned("beside"))

    seen: list[tuple[tuple[str, ...], int]] = []

    def decide(state: ObservedState, memory: tuple[str, ...], _key: str, _now: float) -> Iterator[Poke]:
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
        forget=lambda _memory, _uid: (),
        keys=lambda _state: ("*",),
        touched=lambda _before, _after, _event: ("*",),
        touched_by=lambda _state, _fact: ("*",),
        companions=(companion,),
    )

    async def main() -> None:
        bus = ListBus()
        bus.queue.put_nowait(Snapshot([]))
        task = asyncio.create_task(run_controller(a_runtime(bus=bus), controller))
        await asyncio.sleep(1)
        assert seen[-1] == (("beside", "effect"), 1)
        seen.clear()
        bus.queue.put_nowait(gone)
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(main())
    assert seen[0] == ((), 0)


class Keyed:
    """A component that decides on each Model by itself, by a script."""

    def __init__(
        self, script: Callable[[str], Iterable[Any]] = lambda _key: (), *, accompanied: bool = False
    ) -> None:
        self.script, self.accompanied = script, accompanied
        self.begun: list[float] = []
        self.decided: list[str] = []
        self.states: list[ObservedState] = []
        self.failures: list[str] = []
        self.performed: list[tuple[float, str]] = []
        self.neighbours: dict[str, tuple[str, ...]] = {}

    def decide(self, state: ObservedState, key: str, _now: float) -> Iterator[Any]:
        """Yield the script of the key."""
        self.decided.append(key)
        self.states.append(state)
        yield from self.script(key)

    async def accompany(self, runtime: Runtime, _remember: Remember[AnyEvent]) -> None:
        """Fail a second after each start."""
        self.begun.append(runtime.clock())
        await runtime.sleep(1.0)
        raise KeyError("flexinfer.ai/model")

    async def perform(self, runtime: Runtime, action: Poke) -> Sequence[AnyEvent]:
        """Take a second; fail for what is named so."""
        self.performed.append((runtime.clock(), action.key))
        if action.what == "poison":
            raise ValueError("not a number")
        await runtime.sleep(1.0)
        return []

    def touched(self, before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
        """Yield the Model of an event and its neighbours."""
        for key in touches_its_model(before, after, event):
            yield key
            yield from self.neighbours.get(key, ())

    def run(self, seconds: float, *names: str, then: Sequence[tuple[float, Any]] = (), **parts: Any) -> None:
        """Run for some virtual seconds with Models of these names; `then` are deliveries at a time."""

        async def main() -> None:
            bus = ListBus()
            runtime = a_runtime(
                bus=bus, report_failure=lambda key, _error: self.failures.append(key), **parts
            )
            controller = Controller[Poke, AnyEvent, None](
                name="test",
                decide=stateless(self.decide),
                touched=self.touched,
                perform=self.perform,
                subscriptions=Subscriptions(),
                memory=None,
                companions=(self.accompany,) if self.accompanied else (),
            )
            models = [events.ModelObserved(model=a_model(name)) for name in names]
            bus.queue.put_nowait(Snapshot([Observation(model, 0.0) for model in models]))
            task = asyncio.create_task(run_controller(runtime, controller))
            for at, delivery in then:
                await asyncio.sleep(at - runtime.clock())
                bus.queue.put_nowait(delivery)
            await asyncio.sleep(seconds - runtime.clock())
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        run(main())


def changed(name: str, version: int = 2) -> Observation:
    """Return a change of a Model."""
    return Observation(events.ModelObserved(model=a_model(name, version=version)), 0.0)


def test_an_event_costs_the_decisions_that_it_touches() -> None:
    """After a replay all Models are decided on, after a change the Model and those that it concerns."""
    keyed = Keyed()
    keyed.neighbours = {"default/b": ("default/c",)}
    keyed.run(3.0, "a", "b", "c", then=[(1.0, changed("a")), (2.0, changed("b"))])
    assert keyed.decided[:3] == ["default/a", "default/b", "default/c"]
    assert keyed.decided[3:] == ["default/a", "default/b", "default/c"]


def test_an_event_about_nothing_that_is_decided_costs_no_decision() -> None:
    """A heartbeat decides nothing."""
    keyed = Keyed()
    keyed.run(3.0, "a", then=[(1.0, Observation(events.ProxyObserved(proxy="p"), 1.0))])
    assert keyed.decided == ["default/a"]


def test_a_bug_in_an_effect_costs_its_key_and_not_the_process() -> None:
    """It is reported, and tried again ever less often; the other Model is served."""
    keyed = Keyed(lambda key: [Poke(key, "poison" if key == "default/a" else "well")])
    keyed.run(300.0, "a", "b")
    times = [when for when, key in keyed.performed if key == "default/a"]
    assert 5 < len(times) < 12
    assert keyed.failures == ["default/a"] * len(times)
    assert any(key == "default/b" for _, key in keyed.performed)


def test_a_bug_in_a_decision_costs_its_key_and_not_the_process() -> None:
    """The key is left alone for longer each time, at most a minute, unless something touches it."""

    def script(key: str) -> Iterable[Any]:
        if key == "default/a":
            raise ValueError("not a number")
        return [RequeueAt(250.0)]

    keyed = Keyed(script)
    keyed.run(300.0, "a", "b")
    assert 5 < len(keyed.failures) < 12
    assert "default/b" in keyed.decided[-5:]


def test_a_bug_in_a_companion_costs_its_work_and_not_the_process() -> None:
    """A label that was not foreseen once ended the prefetcher, for all namespaces: it begins again, ever less often."""
    keyed = Keyed(accompanied=True)
    keyed.run(300.0, "a", then=[(200.0, changed("a"))])
    assert 5 < len(keyed.begun) < 12
    assert keyed.failures == ["Keyed.accompany"] * len(keyed.begun)
    assert keyed.decided == ["default/a", "default/a"]


def test_the_same_action_for_a_day_ends_nothing() -> None:
    """The back-off's exponent is bounded: 2 to the 1024th is not a float."""
    keyed = Keyed(lambda key: [Poke(key, "again")])
    keyed.run(86_400.0, "a")
    assert 1024 < len(keyed.performed) < 86_400 / 9
    assert not keyed.failures


def test_a_decision_on_another_key_counts_a_write_in_flight() -> None:
    """Two decisions must not give the same place away twice."""
    model = a_model("a")
    status = PlacedStatus(
        condition=Condition(type=PLACED, status="True", reason="Placed"), placement=Placement(node="box")
    )
    keyed = Keyed(lambda key: [WriteStatus(model=model, status=status)] if key == "default/a" else [])

    class Slow:
        async def apply(self, *_args: Any, **_kwargs: Any) -> Any:
            await asyncio.sleep(1.5)
            raise UnavailableError("no answer")

    keyed.neighbours = {"default/a": ("default/b",)}
    keyed.run(2.0, "a", "b", cluster=Slow(), then=[(1.0, changed("b"))])
    seen = [state.effective("default/a") for state in keyed.states]
    nodes = [m.status.placement.node if m is not None and m.status.placement else "" for m in seen]
    assert nodes[0] == "a"
    assert keyed.decided[1:3] == ["default/b", "default/b"]
    assert nodes[1:3] == ["box", "box"]
    assert nodes[-1] == "a"  # the write failed


def test_facts_and_replies_beside_a_replay_are_kept() -> None:
    """A replay replaces the state, not what the API server and the component itself told meanwhile."""
    reply = Observation(events.ModelObserved(model=a_model("a", version=7)), 1.0, reply=True)
    again = Snapshot([Observation(events.ModelObserved(model=a_model("a", version=1)), 1.0)])
    keyed = Keyed()
    keyed.run(2.0, "a", then=[(1.0, reply), (1.0, again)])
    assert keyed.states[-1].models["default/a"].metadata.version == 7


def test_facts_and_replies_of_one_batch_with_a_replay_are_kept() -> None:
    """All three may wait together: the longer a decision takes, the likelier."""
    seen: list[tuple[tuple[str, ...], int]] = []

    def decide(state: ObservedState, memory: tuple[str, ...], _key: str, _now: float) -> Iterator[Poke]:
        seen.append((memory, state.models["default/a"].metadata.version))
        yield from ()

    controller = Controller[Poke, Learned, tuple[str, ...]](
        name="test",
        decide=decide,
        touched=touches_its_model,
        perform=Recorder().perform,
        subscriptions=Subscriptions(),
        memory=(),
        remember=lambda memory, fact, _at: (*memory, fact.what),
        touched_by=lambda _state, _fact: ("default/a",),
    )
    old, new = (events.ModelObserved(model=a_model("a", version=version)) for version in (1, 9))
    replay = Snapshot([Observation(old, 0.0)])
    replies: list[AnyEvent | Learned] = [new, Learned("by an effect")]

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            loop = ControllerLoop(a_runtime(), controller, tasks)
            loop.inbox.put(replay)
            loop.inbox.put(Finished("default/a", "", replies))
            loop.remember(Learned("by a companion"))
            loop.inbox.put(replay)
            work = tasks.create_task(loop.run())
            await asyncio.sleep(1)
            work.cancel()

    run(main())
    assert seen == [(("by an effect", "by a companion"), 9)]
