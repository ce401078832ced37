"""The world of a history of cards: what the arbiter observes, what it writes, and the processes that use memory.

A write is observed at once. The node has two cards; engines, games and leases use memory of them, telemetry shows it as of the last sample.
"""

import heapq
import itertools
import random
from collections.abc import Callable

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.lease import GPULease
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.moments import moment, stamp
from flexinfer.api.sharedgroup import SharedGroup, SharedGroupStatus
from flexinfer.arbiter.keys import keys, touched
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.simulation.cards.processes import Process, Shown, expected_mb

NODE, CARDS, TOTAL_MB = "a", ("GPU-0", "GPU-1"), 8000
BEGIN, EPOCH = 1000.0, moment("2026-11-24T12:00:00Z") or 0
HEARTBEAT_SECONDS, SAMPLE_SECONDS, RECENT_SECONDS = 5.0, 10.0, 30.0
LOAD_SECONDS = 5.0  # of every engine, as its Model tells
SLACK_MB = 512  # what a card without a process may use


def stamp_of(at: float) -> str:
    """Return a time as the wall clock tells it."""
    return stamp(EPOCH + int(at - BEGIN))


class World:
    """The observed state at `now`, the agenda, and the processes by pid."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = BEGIN
        self.problems: list[str] = []
        self.dirty: set[str] = set()  # keys that the arbiter is to decide on
        self.processes: dict[int, Process] = {}
        self.shown: list[Shown] = []
        self.listed: set[str] = set()  # the cards of which the last sample tells the processes
        self.shown_at = 0.0
        self.ready_since: dict[str, float] = {}
        self.silent_until = self.unlisted_until = 0.0
        self.traffic: dict[str, tuple[int, int]] = {}  # Model -> in flight, waiting
        self.requested: set[str] = set()  # Models that were ever requested
        self._asked: dict[str, float] = {}
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers, self._versions = itertools.count(1), itertools.count(2)
        self._pids, self._samples = itertools.count(100), itertools.count(1)
        self.state = msgspec.structs.replace(ObservedState(), connected_since=0.0)
        allocatable = {"pods": 110_000, GPU_RESOURCES["nvidia"]: 64_000}
        self.observe(
            events.NodeObserved(
                name=NODE, node=NodeFacts(name=NODE, uid=NODE, ready="True", allocatable=allocatable)
            )
        )
        self._beat()
        self._sample_again()

    # --- time

    def enter(self, seconds: float, act: Callable[[], None]) -> None:
        """Enter what happens so many seconds from now."""
        heapq.heappush(self._agenda, (self.now + seconds, next(self._numbers), act))

    def next_at(self) -> float:
        """Return when something happens next."""
        return self._agenda[0][0]

    def happen(self, at: float) -> None:
        """Continue to a time, and let happen what happens at it."""
        self.now = at
        while self._agenda and self._agenda[0][0] <= at:
            heapq.heappop(self._agenda)[2]()

    def stamp(self, at: float | None = None) -> str:
        """Return a time, by default now, as the wall clock tells it."""
        return stamp_of(self.now if at is None else at)

    def seconds_until(self, text: str) -> float:
        """Return how long it is until a time of the wall clock."""
        return (moment(text) or EPOCH) - EPOCH + BEGIN - self.now

    # --- what is observed

    def observe(self, *observed: AnyEvent) -> None:
        """Apply events that are observed now."""
        for event in observed:
            before, self.state = self.state, apply_events(self.state, [Observation(event, self.now)])
            self.dirty.update(touched(before, self.state, event))

    def forget(self) -> None:
        """Let another arbiter begin: it observes everything now, and of the last sample how old it is."""
        gpus = self.state.gpus.get(NODE)
        before, fresh = self.state, msgspec.structs.replace(ObservedState(), connected_since=self.now)
        if gpus is not None:
            fresh = apply_events(fresh, [Observation(gpus.observed, gpus.at)])
        self.state = fresh
        self.dirty.update(keys(before))
        self.observe(
            *(events.NodeObserved(name=name, node=node) for name, node in before.nodes.items()),
            *(events.ModelObserved(model=model) for model in before.models.values()),
            *(events.GroupObserved(group=group) for group in before.groups.values()),
            *(events.LeaseObserved(lease=lease) for lease in before.leases.values()),
            *(self._workload(key, before) for key in before.workloads),
            events.ProxyObserved(proxy="p"),
        )
        for name in self.traffic:
            self.report(name)

    def _workload(self, key: str, state: ObservedState) -> events.WorkloadObserved:
        namespace, name = key.split("/")
        return events.WorkloadObserved(namespace=namespace, name=name, pods=state.workloads[key].pods)

    def _beat(self) -> None:
        self.observe(events.ProxyObserved(proxy="p"))
        for name, (in_flight, waiting) in self.traffic.items():
            if in_flight or waiting:
                self.report(name)
        self.enter(HEARTBEAT_SECONDS, self._beat)

    def count(self, name: str, in_flight: int, waiting: int) -> None:
        """Let a Model have these requests from now on; without another one the last was when it was."""
        if self.traffic.get(name, (0, 0)) != (in_flight, waiting):
            self._asked[name], self.traffic[name] = self.now, (in_flight, waiting)
        self.report(name)

    def note_request(self, name: str) -> None:
        """Note that a Model is requested, as its status does."""
        model = self.model(name)
        self.requested.add(name)
        if model is not None:
            self.write(
                msgspec.structs.replace(
                    model, status=msgspec.structs.replace(model.status, last_active_time=self.stamp())
                )
            )

    def report(self, name: str) -> None:
        """Observe the requests of a Model as its proxy counts them; of one that was never requested it reports nothing."""
        model, (in_flight, waiting) = self.state.models.get(f"default/{name}"), self.traffic[name]
        if model is not None and name in self._asked:
            self.observe(
                events.ActivityObserved(
                    proxy="p",
                    namespace="default",
                    name=name,
                    uid=model.uid,
                    idle_seconds=self.now - self._asked[name],
                    in_flight=in_flight,
                    waiting=waiting,
                )
            )

    def _sample_again(self) -> None:
        self.sample()
        self.enter(SAMPLE_SECONDS, self._sample_again)

    def sample(self) -> None:
        """Observe telemetry as of now, if the agent is heard."""
        if self.now < self.silent_until:
            return
        devices = tuple(self._device(uuid) for uuid in CARDS)
        self._note(devices)
        self.observe(events.GpusObserved(node=NODE, boot="b", sample=next(self._samples), devices=devices))

    def _note(self, devices: tuple[Device, ...]) -> None:
        """Note what a sample shows, and whose it is."""
        self.shown_at = self.now
        self.listed = {
            d.uuid for d in devices if d.processes_known and (d.processes or d.used_mb <= SLACK_MB)
        }
        self.shown = [
            Shown(uuid=uuid, owner=process.owner, mb=process.mb, began=process.began)
            for process in self.processes.values()
            for uuid in process.cards
        ]

    def free_mb(self, uuid: str) -> int:
        """Return what no process has of a card, in MiB."""
        return TOTAL_MB - sum(process.mb for process in self.processes.values() if uuid in process.cards)

    def _device(self, uuid: str) -> Device:
        here = [(pid, process) for pid, process in self.processes.items() if uuid in process.cards]
        used, unlisted = min(TOTAL_MB, sum(process.mb for _, process in here)), self.now < self.unlisted_until
        listed = tuple(
            DeviceProcess(pid=pid, used_mb=p.mb, name="engine", started=pid, pod_uid=p.pod_uid)
            for pid, p in here
            if p.listed and not unlisted
        )
        return Device(
            uuid=uuid,
            vendor="nvidia",
            total_mb=TOTAL_MB,
            used_mb=used,
            free_mb=TOTAL_MB - used,
            processes=listed,
            processes_known=not unlisted,
        )

    # --- what is written

    def model(self, name: str) -> Model | None:
        """Return a Model; None if there is none."""
        return self.state.models.get(f"default/{name}")

    def write(self, model: Model) -> None:
        """Write a Model."""
        metadata = msgspec.structs.replace(model.metadata, resource_version=str(next(self._versions)))
        self.observe(events.ModelObserved(model=msgspec.structs.replace(model, metadata=metadata)))

    def condition(
        self, model: Model, kind: str, status: str, reason: str, backend: BackendStatus | None = None
    ) -> None:
        """Write a condition of a Model, and with it what its engine is."""
        generation = model.metadata.generation
        new = Condition(type=kind, status=status, reason=str(reason), observed_generation=generation)
        if conditions.same(model.condition(kind), new) and backend is None:
            return
        others = tuple(c for c in model.status.conditions if c.type != kind)
        changed = msgspec.structs.replace(
            model.status, conditions=(*others, new), backend=backend or model.status.backend
        )
        self.write(msgspec.structs.replace(model, status=changed))

    def write_group(self, group: SharedGroup, status: SharedGroupStatus) -> None:
        """Write the status of a SharedGroup as it is now."""
        current = self.state.groups.get(group.key, group)
        metadata = msgspec.structs.replace(current.metadata, resource_version=str(next(self._versions)))
        self.observe(
            events.GroupObserved(group=msgspec.structs.replace(current, metadata=metadata, status=status))
        )

    def write_spec(self, group: SharedGroup) -> None:
        """Write the spec of a SharedGroup."""
        metadata = msgspec.structs.replace(group.metadata, resource_version=str(next(self._versions)))
        self.observe(events.GroupObserved(group=msgspec.structs.replace(group, metadata=metadata)))

    def write_lease(self, lease: GPULease) -> None:
        """Write a lease."""
        metadata = msgspec.structs.replace(lease.metadata, resource_version=str(next(self._versions)))
        self.observe(events.LeaseObserved(lease=msgspec.structs.replace(lease, metadata=metadata)))

    # --- memory

    def begin(self, process: Process) -> int:
        """Let a process begin, and judge it; returns its pid."""
        pid, process.began = next(self._pids), self.now
        if process.owner:
            self._judge(process)
        self.processes[pid] = process
        self.enter(self.chance.choice([0.1, 1.0]), self.sample)
        return pid

    def grow(self, pid: int, mb: int) -> None:
        """Let a process use so much from now on, if it has not ended."""
        process = self.processes.get(pid)
        if process is not None and process.listed:
            self.processes[pid] = msgspec.structs.replace(process, mb=mb)

    def end(self, pid: int, seconds: float) -> None:
        """End a process; its memory is back so many seconds later, and seen a moment after."""
        self.processes[pid] = msgspec.structs.replace(self.processes[pid], pod_uid="", listed=False)
        self.enter(seconds, lambda: self._give_back(pid))

    def _give_back(self, pid: int) -> None:
        del self.processes[pid]
        self.enter(self.chance.choice([0.1, 1.0]), self.sample)

    def _judge(self, process: Process) -> None:
        """Report a process that begins where its card has no room, or where another of its group has the card alone."""
        for uuid in process.cards:
            present = [other for other in self.processes.values() if uuid in other.cards]
            here = [other for other in present if other.owner or other.began <= process.sampled_at]
            here = [other for other in here if other.listed or other.mb > SLACK_MB]  # as a driver keeps
            expected = process.counted_mb + sum(expected_mb(other) for other in here)
            if expected > TOTAL_MB:
                self.report_problem(f"{process.owner} begins on {uuid}: {expected} of {TOTAL_MB} MiB: {here}")
            engines = [other for other in here if other.owner and other.owner != process.owner]
            if engines and (process.alone or any(other.alone for other in engines)):
                self.report_problem(
                    f"{process.owner} begins on {uuid} beside one that has it alone: {engines}"
                )

    def report_problem(self, text: str) -> None:
        """Report that a law is broken."""
        self.problems.append(f"{self.now - BEGIN:.1f}s: {text}")
