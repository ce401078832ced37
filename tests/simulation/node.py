"""The node of the simulation, whose engines are records.

It starts every Pod at once, so it hides no error in the turns of a group, and reports two violations of
DESIGN: two running engines of one shared group, and an engine that starts while the memory of another is in
use.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.labels import GENERATION_ANNOTATION, MODEL_LABEL, MODEL_UID_LABEL, TURN_LABEL
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from tests.simulation.bus import Broker

NAME, DEVICE, TOTAL_MB, USED_MB = "a", "GPU-1", 8000, 6000


class Engine(msgspec.Struct):
    """One process: it uses memory from `started` until `freed`, answers while `healthy`, and has `ended`."""

    pod: str
    model: str
    holder: tuple[str, str]
    """The uid of the Model and the turn: the holder of a group may restart within its turn."""
    group: str
    address: str
    started: bool = False
    stopping: bool = False
    healthy: bool = False
    ended: bool = False
    freed: bool = False


class Behaviour(msgspec.Struct):
    """How engines of this history behave, in seconds; `dies` is a probability."""

    starts: float = 0.2
    loads: float = 2.0
    stops: float = 1.5
    frees: float = 1.0
    dies: float = 0.0
    never_ready: frozenset[str] = frozenset()


class Node:
    """Kubelet, Job controller and scheduler of a cluster with one node."""

    def __init__(
        self, store: Store, broker: Broker, chance: random.Random, clock: Callable[[], float]
    ) -> None:
        self._store, self._broker, self._chance, self._clock = store, broker, chance, clock
        self.behaviour = Behaviour()
        self.engines: dict[str, Engine] = {}  # Pod uid -> engine
        self.violations: list[str] = []
        self._pods, self._jobs = self._named("", "v1", "pods"), self._named("batch", "v1", "jobs")
        self._models = self._named(GROUP, VERSION, PLURAL)
        self._groups: dict[
            tuple[str, str], str
        ] = {}  # a Model's uid and generation -> the group of that spec
        self._addresses = 0
        self._samples = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def _named(self, group: str, version: str, plural: str) -> Resource:
        resource = self._store.registry.find(group, version, plural)
        assert resource is not None
        return resource

    def join(self) -> None:
        """Register the node and start its watches."""
        nodes = self._named("", "v1", "nodes")
        allocatable = {"cpu": "64", "memory": "256Gi", "pods": "1000", "nvidia.com/gpu": "64"}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "labels": {}}}
        self._store.create(nodes, None, body, Options())
        status = {
            "allocatable": allocatable,
            "capacity": allocatable,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
        }
        self._store.patch(
            nodes, None, NAME, Patch("merge", {"status": status}), Options(), subresource="status"
        )
        self._store.subscribe(self._models, None, Query(), self._model, since=None)
        self._store.subscribe(self._pods, None, Query(), self._pod, since=None)
        self._store.subscribe(self._jobs, None, Query(), self._job, since=None)

    def run(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- Pods

    def _pod(self, event: Any) -> None:
        pod, uid = event.obj, event.obj["metadata"]["uid"]
        engine = self.engines.get(uid)
        if event.type == "DELETED":
            if engine is not None and not engine.ended:
                self._end(engine)
            return
        meta, spec = pod["metadata"], pod["spec"]
        if meta.get("deletionTimestamp"):
            self.run(self._stop(pod, engine))
        elif not spec.get("nodeName") and not spec.get("schedulingGates"):
            self.run(self._bind(pod))
        elif spec.get("nodeName") and engine is None and not spec.get("schedulingGates"):
            self._addresses += 1
            name = meta["labels"].get(MODEL_LABEL, "")
            address = f"127.0.{self._addresses // 250}.{self._addresses % 250 + 1}"
            holder = (meta["labels"].get(MODEL_UID_LABEL, ""), meta["labels"].get(TURN_LABEL, ""))
            generation = meta.get("annotations", {}).get(GENERATION_ANNOTATION, "")
            group = self._groups.get((holder[0], generation), "")
            engine = Engine(uid, f"{meta['namespace']}/{name}", holder, group, address)
            self.engines[uid] = engine
            self.run(self._start(pod, engine))

    def _model(self, event: Any) -> None:
        """Note the group of each generation: the group of a Pod does not change with its Model."""
        meta = event.obj["metadata"]
        group = (event.obj["spec"].get("gpu") or {}).get("shared", "")
        named = f"{meta['namespace']}/{group}" if group else ""
        self._groups[meta["uid"], str(meta["generation"])] = named

    async def _bind(self, pod: Object) -> None:
        await asyncio.sleep(self._chance.random() * 0.02)
        self._patch(pod, {"spec": {"nodeName": NAME}}, "")

    async def _start(self, pod: Object, engine: Engine) -> None:
        await asyncio.sleep(self._chance.random() * self.behaviour.starts)
        if engine.ended or engine.stopping:
            return
        self._check(engine)
        engine.started = True
        self._running(pod, engine, restarts=0)
        self._sample()
        await asyncio.sleep(0.1 + self._chance.random() * self.behaviour.loads)
        if engine.ended or engine.stopping or engine.model in self.behaviour.never_ready:
            return
        engine.healthy = True
        if self._chance.random() < self.behaviour.dies:
            await asyncio.sleep(self._chance.random() * 5)
            if engine.stopping:
                return
            await self._restart(pod, engine)

    async def _restart(self, pod: Object, engine: Engine) -> None:
        """Restart the process in the same Pod."""
        if engine.ended:
            return
        engine.healthy = False
        self._running(pod, engine, restarts=1)
        await asyncio.sleep(self._chance.random() * self.behaviour.loads)
        engine.healthy = not engine.ended and not engine.stopping

    def _check(self, engine: Engine) -> None:
        """Report two engines of a group, or a start while the memory is in use."""
        if not engine.group:
            return
        others = [
            e
            for e in self.engines.values()
            if e is not engine and e.group == engine.group and e.started and e.holder != engine.holder
        ]
        for other in others:
            if not other.ended:
                self.violations.append(f"two engines of {engine.group}: {engine.model} beside {other.model}")
            elif not other.freed:
                self.violations.append(
                    f"{engine.model} starts while {other.model} has the memory of {engine.group}"
                )

    def _running(self, pod: Object, engine: Engine, *, restarts: int) -> None:
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "ready": False,
            "restartCount": restarts,
            "image": "x",
            "imageID": "",
            "state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}},
        }
        status = {"phase": "Running", "podIP": engine.address, "containerStatuses": [container]}
        self._patch(pod, {"status": status}, "status")

    async def _stop(self, pod: Object, engine: Engine | None) -> None:
        if engine is not None and not engine.ended:
            engine.healthy, engine.stopping = False, True
            await asyncio.sleep(self._chance.random() * self.behaviour.stops)
            if not engine.ended:
                self._end(engine)
        meta = pod["metadata"]
        try:
            options = DeleteOptions(uid=meta["uid"], grace_seconds=0)
            self._store.delete(self._pods, meta["namespace"], meta["name"], options)
        except ApiError:
            return

    def _end(self, engine: Engine) -> None:
        engine.ended, engine.healthy = True, False
        self.run(self._free(engine))

    async def _free(self, engine: Engine) -> None:
        await asyncio.sleep(self._chance.random() * self.behaviour.frees)
        engine.freed = True
        self._sample()

    def _patch(self, pod: Object, body: Object, subresource: str) -> None:
        meta = pod["metadata"]
        try:
            current = self._store.get(self._pods, meta["namespace"], meta["name"])
            if current["metadata"]["uid"] != meta["uid"]:
                return
            if "spec" in body:
                target = {"target": {"kind": "Node", "name": NAME}}
                binding = {
                    "apiVersion": "v1",
                    "kind": "Binding",
                    "metadata": {"name": meta["name"]},
                    **target,
                }
                self._store.update(
                    self._pods, meta["namespace"], meta["name"], binding, Options(), subresource="binding"
                )
                return
            patch = Patch("merge", body)
            self._store.patch(
                self._pods, meta["namespace"], meta["name"], patch, Options(), subresource=subresource
            )
        except ApiError:
            return

    # --- Jobs

    def _job(self, event: Any) -> None:
        if event.type == "ADDED":
            self.run(self._complete(event.obj))

    async def _complete(self, job: Object) -> None:
        await asyncio.sleep(self._chance.random() * 0.5)
        meta = job["metadata"]
        done = {"type": "Complete", "status": "True", "reason": "CompletionsReached"}
        status = {"succeeded": 1, "conditions": [done]}
        try:
            self._store.patch(
                self._jobs,
                meta["namespace"],
                meta["name"],
                Patch("merge", {"status": status}),
                Options(),
                subresource="status",
            )
        except ApiError:
            return

    # --- telemetry

    def _sample(self) -> None:
        self.run(self._broker.publish(self.telemetry()))

    def telemetry(self) -> events.GpusObserved:
        """Return a sample of the node's device."""
        self._samples += 1
        holds = [e for e in self.engines.values() if e.group and e.started and not e.freed]
        processes = tuple(DeviceProcess(pid=n, used_mb=USED_MB) for n, _ in enumerate(holds, 1))
        used = USED_MB if holds else 0
        device = Device(
            uuid=DEVICE, total_mb=TOTAL_MB, free_mb=TOTAL_MB - used, used_mb=used, processes=processes
        )
        return events.GpusObserved(node=NAME, boot="b", sample=self._samples, devices=(device,))

    def engine(self, address: str) -> Engine | None:
        """Return the engine at an address, or None."""
        for engine in self.engines.values():
            if engine.address == address and not engine.ended:
                return engine
        return None

    def answer(self, address: str) -> bool | None:
        """Return whether the engine at an address is healthy; None if there is none."""
        engine = self.engine(address)
        return engine.healthy if engine is not None else None
