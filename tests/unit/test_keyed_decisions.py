"""Every controller decides on a key only when an event touches it, or when it had asked for that time.

That is the same as deciding on everything after every event, for any history: once nothing is dirty, no key would be
decided otherwise, and between two RequeueAt time alone changes nothing.
"""

import functools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.decisions import CONTROLLERS
from flexinfer.api import conditions
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import BackendStatus, Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED
from flexinfer.events import events
from flexinfer.events.events import AnyEvent, WorkloadObserved
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.events.workload import JobFacts
from flexinfer.launcher.memory import EngineProbed
from flexinfer.state.actions import RequeueAt, WriteStatus, written
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import a_group, a_holder, a_model, a_node, a_pod
from tests.unit.watched_time import altered_at

_TIMES_FOLLOWED = 12
NAMES, NODES, PROXIES = "abc", ("n1", "n2"), ("p1", "p2")
_REASONS = {
    conditions.ACCEPTED: [("True", Reason.ACCEPTED), ("False", Reason.INVALID_SPEC)],
    conditions.PLACED: [("True", Reason.PLACED), ("False", Reason.NO_NODE_FITS), ("False", Reason.NODE_GONE)],
    conditions.CACHED: [("True", Reason.CACHED), ("False", Reason.CHECKING), ("False", Reason.FETCH_FAILED)],
    conditions.WANTED: [
        ("True", Reason.ACTIVE),
        ("True", Reason.REQUESTED),
        ("True", Reason.FIRST_START),
        ("False", Reason.FIRST_START_QUEUED),
        ("False", Reason.IDLE),
    ],
    conditions.GRANTED: [("True", Reason.NOT_SHARED), ("True", Reason.GRANTED), ("False", Reason.QUEUED)],
    conditions.READY: [
        ("True", Reason.READY),
        ("False", Reason.STARTING),
        ("False", Reason.LOADING),
        ("False", Reason.DRAINING),
        ("False", Reason.STOPPED),
        ("False", Reason.BACK_OFF),
        ("False", Reason.LOADING_TIMEOUT),
        ("False", Reason.NODE_UNREACHABLE),
    ],
}


class History:
    """A history of events about three Models, two nodes and two proxies, drawn from one source of chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._version = 0
        self._models: dict[str, Model] = {}

    def events(self, count: int) -> Iterator[AnyEvent]:
        """Yield that many events."""
        kinds: list[Callable[[], AnyEvent]] = [
            *[self._model] * 6,
            *[self._workload] * 3,
            self._deleted,
            *[self._group] * 2,
            self._node,
            self._sample,
            *[self._activity] * 2,
            self._heartbeat,
            self._wake,
        ]
        for name in NAMES:
            yield self._model_of(name)
        for _ in range(count):
            yield self._chance.choice(kinds)()

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _model(self) -> AnyEvent:
        return self._model_of(self._chance.choice(NAMES))

    def _model_of(self, name: str) -> AnyEvent:
        chance = self._chance
        generation = chance.choice([1, 1, 1, 2])
        drawn = []
        for kind, verdicts in _REASONS.items():
            if chance.random() < 0.85:
                status, reason = chance.choice(verdicts)
                drawn.append((kind, status, reason))
        group = chance.choice(["", "g", "g", "h"])
        model = a_model(
            name,
            version=self._next(),
            generation=generation,
            uid=f"uid-{name}-{chance.choice('1112')}",
            conditions=drawn,
            gpu=chance.choice([None, Gpu(vendor="nvidia", shared=group, vram_estimate_mb=4000)]),
            serverless={"enabled": chance.random() < 0.8, "idle_timeout": "60s"},
            placement=chance.choice(
                [
                    None,
                    Placement(node="n1", devices=placed_devices(["GPU-1"]), vendor="nvidia"),
                    Placement(node="n2"),
                ]
            ),
            shared_group=chance.choice(
                [None, GroupMembership(group=group, state=chance.choice(["Queued", "Holding"]), turn=1)]
            )
            if group
            else None,
            backend_status=chance.choice([None, BackendStatus(turn=1, restarts=1)]),
        )
        self._models[name] = model
        return events.ModelObserved(model=model)

    def _deleted(self) -> AnyEvent:
        model = self._models[self._chance.choice(NAMES)]
        meta = model.metadata
        return events.ModelDeleted(namespace="default", name=meta.name, uid=meta.uid, version=self._next())

    def _workload(self) -> AnyEvent:
        chance, model = self._chance, self._models[self._chance.choice(NAMES)]
        pods = [
            a_pod(
                model,
                node=chance.choice(NODES),
                version=self._next(),
                turn=chance.choice([0, 1]),
                gates=chance.choice([(), ("flexinfer.ai/turn-1",)]),
                phase=chance.choice(["Running", "Failed", "Pending"]),
                deleting=chance.random() < 0.2,
            )
        ]
        jobs = (JobFacts(name=f"{model.metadata.name}-check-1", uid="job", complete=chance.random() < 0.5),)
        return WorkloadObserved(
            namespace="default", name=model.metadata.name, version=self._next(),
            pods=tuple(pods[: chance.choice([0, 1])]), jobs=jobs[: chance.choice([0, 1])],
        )  # fmt: skip

    def _group(self) -> AnyEvent:
        chance, name = self._chance, self._chance.choice("gh")
        if chance.random() < 0.15:
            uid = f"uid-group-{name}"
            return events.GroupDeleted(namespace="default", name=name, uid=uid, version=self._next())
        model = self._models[chance.choice(NAMES)]
        step = chance.choice([GRANTED, RELEASING, STOPPED])
        holder = a_holder(model.metadata.name, uid=model.uid, node="n1", devices=("GPU-1",), step=step)
        holders = chance.choice([(), (holder,), (holder,)])
        shared = a_group(*holders, name=name, version=self._next(), initialized=chance.random() < 0.8)
        return events.GroupObserved(group=shared)

    def _node(self) -> AnyEvent:
        name, chance = self._chance.choice(NODES), self._chance
        if chance.random() < 0.2:
            return events.NodeDeleted(name=name, version=self._next())
        allocatable = {
            "cpu": chance.choice([1_000, 64_000]),
            "memory": 2**38 * 1000,
            "pods": 110_000,
            "nvidia.com/gpu": 1000,
        }
        node = a_node(
            name,
            version=self._next(),
            ready=chance.choice(["True", "True", "Unknown"]),
            allocatable=allocatable,
        )
        return events.NodeObserved(name=name, node=node)

    def _sample(self) -> AnyEvent:
        used = self._chance.choice([0, 0, 6000])
        processes = (DeviceProcess(pid=7, used_mb=used),) if used else ()
        device = Device(
            uuid="GPU-1",
            vendor="nvidia",
            total_mb=8000,
            free_mb=8000 - used,
            used_mb=used,
            processes=processes,
        )
        return events.GpusObserved(
            node=self._chance.choice(NODES), boot="b", sample=self._next(), devices=(device,)
        )

    def _activity(self) -> AnyEvent:
        chance, model = self._chance, self._models[self._chance.choice(NAMES)]
        return events.ActivityObserved(
            proxy=chance.choice(PROXIES), namespace="default", name=model.metadata.name, uid=model.uid,
            idle_seconds=chance.choice([0.0, 5.0]), in_flight=chance.choice([0, 1]), waiting=chance.choice([0, 0, 2]),
        )  # fmt: skip

    def _heartbeat(self) -> AnyEvent:
        return events.ProxyObserved(proxy=self._chance.choice(PROXIES), final=self._chance.random() < 0.1)

    def _wake(self) -> AnyEvent:
        model = self._models[self._chance.choice(NAMES)]
        return events.WakeRequested(namespace="default", name=model.metadata.name, uid=model.uid)


class Loop:
    """A control loop without its tasks: dirty keys are decided on, and each status write arrives at once."""

    def __init__(self, controller: Any) -> None:
        self._controller = controller
        self.state = msgspec.structs.replace(ObservedState(), connected_since=900.0)
        self._due: dict[str, float] = {}
        self._effects: dict[str, list[Any]] = {}
        self._version = 10_000

    def apply(self, event: AnyEvent, now: float) -> None:
        """Apply an event, and decide on what it touches and on what was due before, until nothing is left."""
        self._settle(
            {key for key, at in self._due.items() if at <= now} | self._observe(event, now), now, event
        )

    def _settle(self, dirty: set[str], now: float, cause: object) -> None:
        for _ in range(300):
            if not dirty:
                return
            key = min(dirty)
            dirty.discard(key)
            for write in self._decide(key, now):
                dirty |= self._observe(events.ModelObserved(model=self._arrived(write)), now, reply=True)
        raise AssertionError(f"no end after {cause}: {dirty}")

    def _observe(self, event: AnyEvent, now: float, *, reply: bool = False) -> set[str]:
        before, self.state = self.state, apply_events(self.state, [Observation(event, now, reply)])
        return set(self._controller.touched(before, self.state, event))

    def _arrived(self, write: WriteStatus) -> Model:
        self._version += 1
        model = written(write)
        metadata = msgspec.structs.replace(model.metadata, resource_version=str(self._version))
        return msgspec.structs.replace(model, metadata=metadata)

    def _decide(self, key: str, now: float) -> list[WriteStatus]:
        writes, self._effects[key], self._due[key] = self.decided(key, now)
        return writes

    def decided(self, key: str, now: float) -> tuple[list[WriteStatus], list[Any], float]:
        """Return the status writes and the effects that are decided for a key, and when it is due again."""
        writes, effects, due = [], [], float("inf")
        for action in self._controller.decide(self.state, self._controller.memory, key, now):
            write = action if isinstance(action, WriteStatus) else getattr(action, "write", None)
            if isinstance(action, RequeueAt):
                due = min(due, action.at)
            elif isinstance(write, WriteStatus):
                if (
                    not write.quiet
                ):  # the time of a request is remembered once written, and no fact arrives here
                    writes.append(write)
            else:
                effects.append(action)
        return writes, effects, due

    def advance(self, now: float) -> float:
        """Let the clock continue to the next time that a key asked for, and decide on what is due then; returns the time, infinite if there is none."""
        due = min(self._due.values(), default=math.inf)
        if due < math.inf:
            now = max(due, math.nextafter(now, math.inf))
            self._settle({key for key, at in self._due.items() if at <= now}, now, "time alone")
            return now
        return due

    def altered(self, now: float) -> Iterator[tuple[str, float]]:
        """Yield the keys whose decision time alone alters before they are due, each with when."""
        for key in self._controller.keys(self.state):
            until = self._due.get(key, math.inf)
            at = altered_at(functools.partial(self._yielded, key), now, until)
            if at is not None:
                yield key, at

    def _yielded(self, key: str, now: float) -> tuple[list[WriteStatus], list[Any]]:
        return self.decided(key, now)[:2]

    def overlooked(self, now: float) -> list[str]:
        """Return the keys for which a decision on everything would yield something else at a time before they are due."""
        return [
            key
            for key in self._controller.keys(self.state)
            if now < self._due.get(key, float("inf"))
            and self.decided(key, now)[:2] != ([], self._effects.get(key, []))
        ]


@pytest.mark.parametrize("name", CONTROLLERS)
@given(st.randoms(use_true_random=False))
@settings(max_examples=40, deadline=None, phases=(Phase.generate,))
def test_deciding_on_what_is_touched_is_deciding_on_everything(name: str, chance: random.Random) -> None:
    """For any history: once nothing is dirty, a decision on all keys yields nothing else, now and until one is due."""
    loop, now = Loop(CONTROLLERS[name]()), 1000.0
    for event in History(chance).events(20):
        now += chance.choice([0.0, 0.1, 3.0, 20.0])
        loop.apply(event, now)
        for later in (now, now + 0.9, now + 14.0, now + 31.0, now + 700.0):
            assert not loop.overlooked(later), f"{later - now:g} s after {event}"


@pytest.mark.parametrize("name", CONTROLLERS)
@given(st.randoms(use_true_random=False))
@settings(max_examples=30, deadline=None, phases=(Phase.generate,))
def test_time_alone_alters_no_decision_but_at_the_times_that_were_asked_for(
    name: str, chance: random.Random
) -> None:
    """For any history and then nothing: at each time that a key asked for, a decision on all keys yields what that on those due does."""
    loop, now = Loop(CONTROLLERS[name]()), 1000.0
    for event in History(chance).events(chance.randrange(20)):
        now += chance.choice([0.0, 0.1, 3.0, 20.0])
        loop.apply(event, now)
    for _ in range(_TIMES_FOLLOWED):
        assert not loop.overlooked(now), now
        assert not [*loop.altered(now)], f"decided at {now}"
        now = loop.advance(now)
        if now == math.inf:
            return


def test_an_engines_answer_touches_its_model() -> None:
    """A fact of the launcher's own names the Model."""
    fact = EngineProbed(key="default/a", uid="u", pod_uid="p", healthy=True)
    assert list(CONTROLLERS["launcher"]().touched_by(ObservedState(), fact)) == ["default/a"]
