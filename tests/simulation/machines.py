"""Machines: the nodes of the cluster, with scheduler, Job controller and the collection of Pods of lost nodes."""

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.events.nodes import DeviceProcess
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from tests.simulation.agent import Agent
from tests.simulation.deadlines import SETTINGS
from tests.simulation.engine import UNKNOWN_MB, Behaviour, Engine
from tests.simulation.jetstream.client import SimulatedClient
from tests.simulation.jetstream.server import NatsServer
from tests.simulation.kubelet import Kubelet
from tests.simulation.weaknesses import shown

NODES = ("a", "b")
_ALLOCATABLE = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
_PLUGGED = {"nvidia.com/gpu": "64"}
_EVICTION_SECONDS = 5.0
"""How long the Pods of a Node that was deleted stay."""


class Machines:
    """All nodes; `started` is called with each engine before it uses memory."""

    def __init__(
        self, store: Store, nats: NatsServer, chance: random.Random, clock: Callable[[], float]
    ) -> None:
        self.store, self.chance, self.clock = store, chance, clock
        self.behaviour = Behaviour()
        self.engines: dict[str, Engine] = {}  # Pod uid -> engine
        self.started: Callable[[Engine], None] = lambda _engine: None
        self.devices: dict[str, tuple[str, ...]] = {node: (f"GPU-{node}",) for node in NODES}
        """Node -> its devices: a device plugin offers one, several are named to the container runtime, so that each Pod has those of its placement."""
        self.requested: Callable[[], int] = lambda: 1
        """Draws how many devices a Model in a group requests."""
        self.lost: set[str] = set()
        self.given_up: set[str] = set()
        self.failing_jobs = 0.0
        self.silent_jobs_until = 0.0
        self.pods, self._jobs = self.named("", "v1", "pods"), self.named("batch", "v1", "jobs")
        self._nodes = self.named("", "v1", "nodes")
        self._terms: dict[
            tuple[str, str], tuple[str, int | None]
        ] = {}  # uid and generation of a Model -> its group and estimate then
        self.growth = random.Random(0)
        self.leased: Callable[[str], Iterable[DeviceProcess]] = lambda _node: ()
        """Returns the processes of leases on a device."""
        self.ended: Callable[[str], None] = lambda _node: None
        """Called with a node whose machine ends."""
        self._addresses = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.kubelets = {node: Kubelet(self, node) for node in NODES}
        self.clients = {node: SimulatedClient(nats, f"agent-{node}", lambda: 0.0) for node in NODES}
        self.agents = {node: Agent(self, node, client) for node, client in self.clients.items()}

    def named(self, group: str, version: str, plural: str) -> Resource:
        """Return a resource of the store."""
        resource = self.store.registry.find(group, version, plural)
        assert resource is not None
        return resource

    def run(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def start(self) -> None:
        """Register the nodes and start the watches and the telemetry."""
        for node in NODES:
            self.register(node)
        models = self.named(GROUP, VERSION, PLURAL)
        self.store.subscribe(models, None, Query(), self._model, since=None)
        self.store.subscribe(self.pods, None, Query(), self._pod, since=None)
        self.store.subscribe(self._jobs, None, Query(), self._job, since=None)
        for agent in self.agents.values():
            self.run(agent.run())

    # --- nodes

    def register(self, node: str) -> None:
        """Register a Node, ready."""
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node, "labels": {}}}
        try:
            self.store.create(self._nodes, None, body, Options())
        except ApiError:
            return
        named = len(self.devices[node]) > 1
        offered = _ALLOCATABLE if named else _ALLOCATABLE | _PLUGGED
        status: Object = {"allocatable": offered, "capacity": offered}
        if named:
            status["runtimeHandlers"] = [{"name": SETTINGS.runtime_class_nvidia}]
        self._patch_node(node, {"status": status}, "status")
        self.set_ready(node, "True")

    def set_ready(self, node: str, ready: str) -> None:
        """Write the Node's condition, as the kubelet or, for a silent one, the node controller does."""
        condition = {"type": "Ready", "status": ready, "reason": "KubeletReady"}
        self._patch_node(node, {"status": {"conditions": [condition]}}, "status")

    def _patch_node(self, node: str, body: Object, subresource: str) -> None:
        try:
            self.store.patch(
                self._nodes, None, node, Patch("merge", body), Options(), subresource=subresource
            )
        except ApiError:
            return

    def silence(self, node: str) -> None:
        """Let a node fall silent: its engines run on, and nothing is heard of them."""
        self.kubelets[node].silent = True
        if shown("telemetry that ends"):
            self.agents[node].lies.silent_until = float("inf")
        self.set_ready(node, "Unknown")

    def lose(self, node: str) -> None:
        """Let a machine end: its processes are gone, its Node is deleted, and so are its Pods."""
        self._end(node)
        self.give_up(node)

    def _end(self, node: str) -> None:
        self.silence(node)
        self.agents[node].lies.silent_until = float("inf")
        for engine in self.engines.values():
            if engine.node == node and not engine.ended:
                engine.ended = engine.freed = True
                engine.healthy = False
                engine.gone.set()
        self.lost.add(node)
        self.ended(node)

    def mark_out_of_service(self, node: str) -> None:
        """Let a machine end whose Node stays, with the taint by which an administrator says so: its Pods are deleted."""
        self._end(node)
        self.given_up.add(node)
        taint = {"key": OUT_OF_SERVICE_TAINT, "effect": "NoExecute"}
        self._patch_node(node, {"spec": {"taints": [taint]}}, "")
        self.run(self._collect_pods(node))

    def give_up(self, node: str) -> None:
        """Delete a Node, as an administrator does with one that is lost: who does says that nothing runs there, true or not."""
        self.given_up.add(node)
        try:
            self.store.delete(self._nodes, None, node, DeleteOptions())
        except ApiError:
            return
        self.run(self._collect_pods(node))

    async def _collect_pods(self, node: str) -> None:
        await asyncio.sleep(_EVICTION_SECONDS)
        for pod in list(self._pods_on(node)):
            meta = pod["metadata"]
            try:
                options = DeleteOptions(uid=meta["uid"], grace_seconds=0)
                self.store.delete(self.pods, meta["namespace"], meta["name"], options)
            except ApiError:
                continue

    def restore(self, node: str) -> None:
        """Bring a node back, registered and heard again."""
        if node in self.given_up:
            self._patch_node(node, {"spec": {"taints": None}}, "")
        self.lost.discard(node)
        self.given_up.discard(node)
        self.register(node)
        self.set_ready(node, "True")
        self.agents[node].lies.silent_until = 0.0
        if self.kubelets[node].silent:
            self.kubelets[node].speak()
        self.sample(node)

    def follow_backup(self) -> None:
        """Follow an API server that was restored: nodes, Pods and Jobs of the backup are as they are now, or run again."""
        for node, kubelet in self.kubelets.items():
            if not kubelet.silent:
                self.register(node)
                self.set_ready(node, "True")
                kubelet.follow_backup()
                self.sample(node)
            elif node in self.lost:
                self.give_up(node)
            else:
                self.set_ready(node, "Unknown")
        for pod in self.store.list(self.pods, None, Query()).items:
            if not pod["spec"].get("nodeName"):
                self._follow_unbound(pod)
        for job in self.store.list(self._jobs, None, Query()).items:
            if not job.get("status", {}).get("conditions"):
                self.run(self._complete(job))

    def _pods_on(self, node: str) -> Iterator[Object]:
        for pod in self.store.list(self.pods, None, Query()).items:
            if pod["spec"].get("nodeName") == node:
                yield pod

    def sample(self, node: str) -> None:
        """Have the agent of a node publish a sample."""
        self.run(self.agents[node].publish())

    # --- Pods

    def _pod(self, event: Any) -> None:
        pod = event.obj
        node = pod["spec"].get("nodeName")
        if node:
            if node in self.kubelets:
                self.kubelets[node].on_pod(event.type, pod)
        elif event.type != "DELETED":
            self._follow_unbound(pod)

    def _follow_unbound(self, pod: Object) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            self.run(self._remove_unbound(pod))
        elif not pod["spec"].get("schedulingGates"):
            self.run(self._bind(pod))

    async def _remove_unbound(self, pod: Object) -> None:
        await asyncio.sleep(0.01)
        meta = pod["metadata"]
        try:
            options = DeleteOptions(uid=meta["uid"], grace_seconds=0)
            self.store.delete(self.pods, meta["namespace"], meta["name"], options)
        except ApiError:
            return

    async def _bind(self, pod: Object) -> None:
        await asyncio.sleep(self.chance.random() * 0.02)
        meta, node = pod["metadata"], _affine_node(pod)
        try:
            if self.store.get(self.pods, meta["namespace"], meta["name"])["metadata"]["uid"] != meta["uid"]:
                return
            self.store.get(self._nodes, None, node)
            body = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": meta["name"]},
                "target": {"kind": "Node", "name": node},
            }
            self.store.update(
                self.pods, meta["namespace"], meta["name"], body, Options(), subresource="binding"
            )
        except ApiError:
            return

    def starts(self, engine: Engine) -> None:
        """Note that an engine starts to use memory."""
        self.started(engine)

    def next_address(self) -> str:
        """Return an address that no engine had."""
        self._addresses += 1
        return f"127.0.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def engine(self, address: str) -> Engine | None:
        """Return the engine at an address, or None."""
        for engine in self.engines.values():
            if engine.address == address and not engine.ended:
                return engine
        return None

    # --- Models and Jobs

    def _model(self, event: Any) -> None:
        """Note the group of each generation: the group of a Pod does not change with its Model."""
        meta = event.obj["metadata"]
        group = (event.obj["spec"].get("gpu") or {}).get("shared", "")
        named = f"{meta['namespace']}/{group}" if group else ""
        estimate = (event.obj["spec"].get("gpu") or {}).get("vramEstimateMB")
        self._terms[meta["uid"], str(meta["generation"])] = (named, estimate)

    def used_mb(self, estimate: int | None) -> int:
        """Return what an engine uses whose Model estimates that."""
        if estimate is None:
            return UNKNOWN_MB
        return estimate + (700 if self.growth.random() < self.behaviour.grows else 0)

    def estimate_of(self, uid: str, generation: str) -> int | None:
        """Return the estimate of a Model at a generation, in MiB."""
        return self._terms.get((uid, generation), ("", None))[1]

    def group_of(self, uid: str, generation: str) -> str:
        """Return the group that a Model named at a generation; empty for none."""
        return self._terms.get((uid, generation), ("", None))[0]

    def _job(self, event: Any) -> None:
        if event.type == "ADDED":
            self.run(self._complete(event.obj))

    async def _complete(self, job: Object) -> None:
        delay = max(0.0, self.silent_jobs_until - self.clock())
        await asyncio.sleep(delay + self.chance.random() * 0.5)
        meta = job["metadata"]
        failed = self.chance.random() < self.failing_jobs
        kind, reason = ("Failed", "BackoffLimitExceeded") if failed else ("Complete", "CompletionsReached")
        condition = {"type": kind, "status": "True", "reason": reason, "message": ""}
        status = {"failed" if failed else "succeeded": 1, "conditions": [condition]}
        try:
            patch = Patch("merge", {"status": status})
            self.store.patch(
                self._jobs, meta["namespace"], meta["name"], patch, Options(), subresource="status"
            )
        except ApiError:
            return


def _affine_node(pod: Object) -> str:
    """Return the node that a Pod's affinity names."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms", ()):
        for field in term.get("matchFields", ()):
            return str(field["values"][0])
    return NODES[0]
