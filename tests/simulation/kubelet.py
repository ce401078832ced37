"""Kubelet: the node agent of one machine, whose engines are records.

It starts every Pod at once, so it hides no error in the turns of a group. While it is silent, its engines continue
and the API hears nothing of them; what it missed it learns when it is back.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from flexinfer.api.labels import (
    DEVICES_ANNOTATION,
    GENERATION_ANNOTATION,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    TURN_LABEL,
)
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query
from localkube.apiserver.resources import Object
from tests.simulation.engine import Engine

if TYPE_CHECKING:
    from tests.simulation.machines import Machines

GRACE_SECONDS = 30.0
_STARTED_AT = "2026-11-24T12:00:00Z"


class Kubelet:
    """The kubelet of one node."""

    def __init__(self, machines: "Machines", node: str) -> None:
        self.machines, self.node = machines, node
        self._store, self._chance, self._pods = machines.store, machines.chance, machines.pods
        self.silent = False

    # --- what the API server says

    def on_pod(self, event_type: str, pod: Object) -> None:
        """Take a change of a Pod that is bound to this node."""
        if self.silent:
            return
        meta, engine = pod["metadata"], self.machines.engines.get(pod["metadata"]["uid"])
        if event_type == "DELETED":
            if engine is not None and not engine.ended:
                self.end(engine)
        elif meta.get("deletionTimestamp"):
            self.machines.run(self._stop(pod, engine))
        elif engine is None and not pod["spec"].get("schedulingGates"):
            self.machines.run(self._start(pod, self._engine(pod)))

    def speak(self) -> None:
        """Be heard again: catch up with what was missed."""
        self.silent = False
        pods = self._bound()
        for engine in list(self.machines.engines.values()):
            if engine.node == self.node and not engine.ended and engine.pod not in pods:
                self.end(engine)
        for pod in pods.values():
            self.on_pod("MODIFIED", pod)

    def follow_backup(self) -> None:
        """Follow an API server that was restored: end what it does not say runs here, and run what it says that runs."""
        pods = self._bound()
        for engine in list(self.machines.engines.values()):
            if engine.node == self.node and engine.pod not in pods:
                engine.ended = engine.freed = True
                engine.healthy = False
                engine.gone.set()
                del self.machines.engines[engine.pod]  # a Pod that is not bound yet may be bound here again
        for pod in pods.values():
            known = self.machines.engines.get(pod["metadata"]["uid"])
            if known is not None and known.ended and pod["status"].get("phase") != "Failed":
                del self.machines.engines[known.pod]
            self.on_pod("MODIFIED", pod)

    def _bound(self) -> dict[str, Object]:
        """Return the Pods that are bound to this node, by uid."""
        pods = self._store.list(self._pods, None, Query()).items
        return {pod["metadata"]["uid"]: pod for pod in pods if pod["spec"].get("nodeName") == self.node}

    def _engine(self, pod: Object) -> Engine:
        meta, machines = pod["metadata"], self.machines
        labels = meta["labels"]
        holder = (labels.get(MODEL_UID_LABEL, ""), labels.get(TURN_LABEL, ""))
        annotations = meta.get("annotations", {})
        generation, placed = (
            annotations.get(name, "") for name in (GENERATION_ANNOTATION, DEVICES_ANNOTATION)
        )
        engine = Engine(
            pod=meta["uid"],
            model=f"{meta['namespace']}/{labels.get(MODEL_LABEL, '')}",
            holder=holder,
            group=machines.group_of(holder[0], generation),
            node=self.node,
            address=machines.next_address(),
            devices=tuple(placed.split(",")) if placed else machines.devices[self.node][:1],
            estimate_mb=(estimate := machines.estimate_of(holder[0], generation)),
            used_mb=machines.used_mb(estimate),
        )
        machines.engines[engine.pod] = engine
        return engine

    # --- the life of an engine

    async def _start(self, pod: Object, engine: Engine) -> None:
        behaviour, chance = self.machines.behaviour, self._chance
        await asyncio.sleep(chance.random() * behaviour.starts)
        if engine.ended or engine.stopping:
            return
        self.machines.starts(engine)
        engine.started = True
        self._running(pod, engine)
        self.machines.sample(self.node)
        await asyncio.sleep(0.1 + chance.random() * behaviour.loads)
        if engine.ended or engine.stopping or engine.model in behaviour.never_ready:
            return
        engine.healthy = True
        if chance.random() < behaviour.dies:
            await asyncio.sleep(chance.random() * 5)
            await self.die(pod, engine, "Error")
        elif chance.random() < behaviour.hangs:
            await asyncio.sleep(chance.random() * 5)
            engine.healthy, engine.stuck = False, True

    async def die(self, pod: Object, engine: Engine, reason: str) -> None:
        """End the process by itself: it is restarted in its Pod, or the Pod has failed."""
        if engine.ended or engine.stopping or self.silent:
            return
        if pod["spec"].get("restartPolicy") == "Never":
            self.end(engine)
            self.fail(pod, reason)
            return
        engine.healthy = engine.stuck = False
        engine.requests.clear()
        engine.restarts += 1
        self._running(pod, engine)
        await asyncio.sleep(self._chance.random() * self.machines.behaviour.loads)
        engine.healthy = not engine.ended and not engine.stopping

    async def _stop(self, pod: Object, engine: Engine | None) -> None:
        if engine is not None and not engine.ended:
            if engine.stopping:
                return
            behaviour = self.machines.behaviour
            hard = engine.stuck or engine.model in behaviour.ignores_sigterm
            engine.healthy, engine.stopping = False, True
            grace = float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            seconds = grace if hard else min(grace, self._chance.random() * behaviour.stops)
            await asyncio.sleep(seconds)
            if not engine.ended:
                self.end(engine)
        if self.silent:
            return
        meta = pod["metadata"]
        options = DeleteOptions(uid=meta["uid"], grace_seconds=0)
        try:
            self._store.delete(self._pods, meta["namespace"], meta["name"], options)
        except ApiError:
            return

    def end(self, engine: Engine) -> None:
        """End a process; its memory is free a moment later."""
        engine.ended, engine.healthy = True, False
        engine.gone.set()
        self.machines.run(self._free(engine))

    async def _free(self, engine: Engine) -> None:
        await asyncio.sleep(self._chance.random() * self.machines.behaviour.frees)
        engine.freed = True
        self.machines.sample(self.node)

    # --- what it says of its Pods

    def fail(self, pod: Object, reason: str) -> None:
        """Say that a Pod has failed: evicted, or ended by itself."""
        evicted = reason == "Evicted"
        status: dict[str, Any] = {"phase": "Failed", "reason": reason if evicted else ""}
        if not evicted:
            code = 137 if reason == "OOMKilled" else 1
            ended = {"terminated": {"exitCode": code, "reason": reason}}
            status["containerStatuses"] = [self._container(pod, ended, 0)]
        self._patch(pod, status)

    def _running(self, pod: Object, engine: Engine) -> None:
        state = {"running": {"startedAt": _STARTED_AT}}
        containers = [self._container(pod, state, engine.restarts)]
        self._patch(pod, {"phase": "Running", "podIP": engine.address, "containerStatuses": containers})

    @staticmethod
    def _container(pod: Object, state: Object, restarts: int) -> dict[str, Any]:
        return {
            "name": pod["spec"]["containers"][0]["name"],
            "ready": False,
            "restartCount": restarts,
            "image": "x",
            "imageID": "",
            "state": state,
        }

    def _patch(self, pod: Object, status: Object) -> None:
        if self.silent:
            return
        meta, patch = pod["metadata"], Patch("merge", {"status": status})
        try:
            current = self._store.get(self._pods, meta["namespace"], meta["name"])
            if current["metadata"]["uid"] == meta["uid"]:
                self._store.patch(
                    self._pods, meta["namespace"], meta["name"], patch, Options(), subresource="status"
                )
        except ApiError:
            return
