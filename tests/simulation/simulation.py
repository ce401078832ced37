"""A simulation: API store, bus, node, the real proxy and the six controllers, with faults from one seed.

A component can be killed between any two of its calls, with the response to the last one lost, and is
restarted; or it is paused for longer than its Lease lasts while a new leader acts, and resumes in the middle
of its work.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeAlias, TypeVar

import msgspec

from flexinfer.api import conditions
from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.arbiter.__main__ import controller as arbiter
from flexinfer.launcher.__main__ import controller as launcher
from flexinfer.launcher.engine_client import Answer, Ask
from flexinfer.placer.__main__ import controller as placer
from flexinfer.prefetcher.__main__ import controller as prefetcher
from flexinfer.proxy.gateway import Gateway
from flexinfer.reaper.__main__ import controller as reaper
from flexinfer.runtime.control_loop import run_controller
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.kubernetes.api import Change, Cluster, Kind, Listing
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.watcher.__main__ import mirror
from localkube.apiserver.errors import ApiError as StoreError
from localkube.apiserver.requests import Options, Patch, Query
from localkube.apiserver.resources import Resource
from localkube.apiserver.store import Store
from localkube.controllers.garbage_collector import GarbageCollector
from tests.simulation.bus import Broker, SimulatedBus, SimulatedStream
from tests.simulation.checker import Checker
from tests.simulation.node import Node
from tests.simulation.proxy import GatewayFactory, Proxy
from tests.simulation.registry import registry
from tests.store_cluster import StoreCluster

T = TypeVar("T")
AnyController: TypeAlias = Controller[Any, Any, Any]
EPOCH = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SETTINGS = Settings(drain_seconds=5, loading_seconds=15, memory_free_seconds=2, relist_seconds=20)
LEASE_SECONDS = 6.0
_LOADS, _STOPS = SETTINGS.loading_seconds, SETTINGS.drain_seconds + 30
DEADLINES: Mapping[tuple[str, str], float] = {
    (conditions.READY, Reason.STARTING): _LOADS,
    (conditions.READY, Reason.LOADING): _LOADS,
    (conditions.READY, Reason.RESTARTING): _LOADS,
    (conditions.READY, Reason.DRAINING): _STOPS,
    (conditions.READY, Reason.STOPPING): _STOPS,
    (conditions.CACHED, Reason.CHECKING): 10.0,
    (conditions.GRANTED, Reason.RELEASED): _STOPS,
    (conditions.GRANTED, Reason.LEAVING_GROUP): _STOPS,
    (conditions.GRANTED, Reason.QUEUED): 3 * (_LOADS + _STOPS),
    (conditions.WANTED, Reason.FIRST_START): 2 * _LOADS,
    (conditions.WANTED, Reason.FIRST_START_QUEUED): 3 * (_LOADS + _STOPS),
}
"""How long each wait may last with these settings, in seconds.

A queued Model also waits for all before it.
"""
GARBAGE_SECONDS = 0.5


class Member:
    """One replica of a component: when it is killed, and until when it is paused."""

    def __init__(
        self, simulation: "Simulation", name: str, main: Callable[[Runtime], Awaitable[None]]
    ) -> None:
        self.simulation, self.name, self.main = simulation, name, main
        self.calls = 0
        self.dies_at: int | None = None
        self.paused_until = 0.0
        self.is_deposed = False
        self.task: asyncio.Task[None] | None = None

    async def step(self) -> None:
        """Pass a point at which the process may be killed or paused."""
        self.calls += 1
        if self.dies_at is not None and self.calls >= self.dies_at and not self.is_deposed:
            self.simulation.kill(self)
            await asyncio.Event().wait()
        await asyncio.sleep(self.simulation.chance.random() * self.simulation.latency)
        while self.simulation.clock() < self.paused_until:
            await asyncio.sleep(self.paused_until - self.simulation.clock() + 0.001)

    def runtime(self) -> Runtime:
        """Return the Runtime of the component."""
        simulation = self.simulation
        return Runtime(
            name=self.name,
            settings=SETTINGS,
            cluster=InterruptibleCluster(StoreCluster(simulation.store), self),
            bus=SimulatedBus(simulation.broker, self.name),
            clock=simulation.clock,
            utc_now=simulation.utc_now,
            sleep=asyncio.sleep,
            random=simulation.chance.random,
            set_ready=lambda _up: None,
            spawn_background=simulation.spawn_background,
            is_leader=lambda: not self.is_deposed,
        )

    async def live(self) -> None:
        """Run the component."""
        await self.main(self.runtime())


class InterruptibleCluster:
    """A Kubernetes client whose calls can be interrupted before the request and before the response is seen."""

    def __init__(self, inner: Cluster, member: Member) -> None:
        self._inner, self._member = inner, member

    async def _interruptible(self, call: Callable[[], Awaitable[T]]) -> T:
        await self._member.step()
        answer = await call()
        await self._member.step()
        return answer

    async def _write(self, verb: str, kind: Kind[Any], body: Any, call: Callable[[], Awaitable[T]]) -> T:
        async def checked() -> T:
            answer = await call()
            self._member.simulation.checker.sent(verb, kind, body, answer)
            return answer

        return await self._interruptible(checked)

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """GET."""
        return await self._interruptible(lambda: self._inner.get(kind, namespace, name))

    async def list(self, kind: Kind[T], namespace: str = "", *, labels: str = "") -> Listing[T]:
        """LIST."""
        return await self._interruptible(lambda: self._inner.list(kind, namespace, labels=labels))

    async def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """WATCH."""
        async for change in self._inner.watch(kind, version):
            yield change

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """POST."""
        if kind.name == "Event":
            return body  # type: ignore[no-any-return] # Events are not simulated
        return await self._interruptible(lambda: self._inner.create(kind, namespace, body))

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """PUT."""
        return await self._write(
            "replace",
            kind,
            msgspec.to_builtins(body),
            lambda: self._inner.replace(kind, namespace, name, body, subresource=subresource),
        )

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Apply."""
        return await self._write(
            "apply",
            kind,
            body,
            lambda: self._inner.apply(kind, namespace, body, manager=manager, subresource=subresource),
        )

    async def patch(self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any]) -> T:
        """Patch."""
        return await self._write(
            "patch", kind, operations, lambda: self._inner.patch(kind, namespace, name, operations)
        )

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Merge."""
        return await self._interruptible(lambda: self._inner.merge(kind, namespace, name, body))

    async def delete(
        self, kind: Kind[Any], namespace: str, name: str, *, uid: str = "", grace: int | None = None
    ) -> None:
        """DELETE."""
        await self._write(
            "delete",
            kind,
            {"uid": uid},
            lambda: self._inner.delete(kind, namespace, name, uid=uid, grace=grace),
        )


class Simulation:
    """The whole system in virtual time; `services` replace the controllers of the same name."""

    def __init__(
        self,
        seed: int,
        services: Mapping[str, AnyController] | None = None,
        gateway: GatewayFactory = Gateway,
    ) -> None:
        ours: list[AnyController] = [make(SETTINGS) for make in (placer, prefetcher, reaper, arbiter)]
        self._services = {controller.name: controller for controller in ours} | dict(services or {})
        self.chance = random.Random(seed)
        self.clock = asyncio.get_running_loop().time
        self.latency = 0.003
        self._uids = itertools.count(1)
        self.store = Store(
            registry(), now=self.utc_now, new_uid=lambda: f"{next(self._uids):08d}-0000-4000-8000-0"
        )
        self.checker = Checker(self.clock, DEADLINES)
        self.store.observe(self.checker.written)
        self.broker = Broker(self.chance, self.clock)
        self.node = Node(self.store, self.broker, self.chance, self.clock)
        self._kind = self._named(GROUP, VERSION, PLURAL)
        self.proxy = Proxy(self.node, self.checker, self.chance, gateway)
        self.members: dict[str, Member] = {}
        self.deposed: list[Member] = []
        self.failures: list[BaseException] = []
        self.log: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def _named(self, group: str, version: str, plural: str) -> Resource:
        resource = self.store.registry.find(group, version, plural)
        assert resource is not None
        return resource

    def utc_now(self) -> datetime:
        """Return the wall-clock time."""
        return EPOCH + timedelta(seconds=self.clock())

    def models(self) -> dict[str, Model]:
        """Return every Model of the API server by key."""
        items = self.store.list(self._kind, None, Query()).items
        models = [msgspec.convert(item, Model) for item in items]
        return {model.key: model for model in models}

    def record(self, what: str) -> None:
        """Add a line to the log, which is printed for a seed with problems."""
        self.log.append(f"{self.clock():8.3f} {what}")

    # --- processes

    def spawn_background(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failures.append(error)

    def start(self) -> None:
        """Start the node, the proxy and every controller."""
        namespaces = self._named("", "v1", "namespaces")
        claims = self._named("", "v1", "persistentvolumeclaims")
        for name in ("default", SYSTEM_NAMESPACE):
            with contextlib.suppress(StoreError):
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                self.store.create(namespaces, None, body, Options())
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        self.store.create(claims, "default", claim, Options())
        bound = Patch("merge", {"status": {"phase": "Bound"}})
        self.store.patch(claims, "default", "models", bound, Options(), subresource="status")
        self.node.join()
        self.spawn_background(self._collect())
        self.spawn_background(self._telemetry())
        for name in ("proxy", "watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher"):
            self.launch(name)

    async def _collect(self) -> None:
        """Collect garbage shortly after every change, as the controller of Kubernetes does."""
        garbage, changed = GarbageCollector(self.store), asyncio.Event()
        self.store.observe(lambda _change: changed.set())
        while True:
            await changed.wait()
            await asyncio.sleep(self.chance.random() * GARBAGE_SECONDS)
            changed.clear()
            garbage.step()

    async def _telemetry(self) -> None:
        while True:
            await self.broker.publish(self.node.telemetry())
            await asyncio.sleep(10)

    def launch(self, name: str) -> Member:
        """Start a new replica of a component."""
        member = self.members[name] = Member(self, name, self._main(name))
        member.task = asyncio.get_running_loop().create_task(member.live())
        self._tasks.add(member.task)
        member.task.add_done_callback(self._done)
        return member

    def _main(self, name: str) -> Callable[[Runtime], Awaitable[None]]:
        if name == "proxy":
            return self.proxy.main
        if name == "watcher":
            return lambda runtime: mirror(runtime, SimulatedStream(self.broker))
        controller = self._services.get(name) or launcher(SETTINGS, self._http_client)
        return partial(run_controller, controller=controller)

    @contextlib.asynccontextmanager
    async def _http_client(self) -> AsyncIterator[Ask]:
        async def ask(url: str) -> Answer:
            await asyncio.sleep(0.001)
            address = url.partition("//")[2].partition(":")[0]
            healthy = self.node.answer(address)
            if healthy is None:
                return Answer(0, detail="no connection: refused", refused=True)
            return Answer(200 if healthy else 503, "llamacpp:requests_processing 0\n")

        yield ask

    def kill(self, member: Member, back_after: float | None = None) -> None:
        """Kill a replica; it is restarted after `back_after` seconds, or after a random delay."""
        self.record(f"kill {member.name} at its call {member.calls}")
        if member.task is not None:
            member.task.cancel()
        if self.members.get(member.name) is member:
            del self.members[member.name]
            delay = self.chance.random() * 2 if back_after is None else back_after
            asyncio.get_running_loop().call_later(delay, self.launch, member.name)

    def cut_off(self, name: str, seconds: float) -> None:
        """Disconnect a component from NATS for some seconds."""
        self.record(f"cut {name} off NATS for {seconds:.1f} s")
        self.broker.cut_off(name)
        asyncio.get_running_loop().call_later(seconds, self.broker.reconnect, name)

    def pause(self, name: str, seconds: float) -> None:
        """Pause a replica for some seconds.

        If its Lease expires, a new leader takes over and the resumed replica is deposed.
        """
        member = self.members.get(name)
        if member is None:
            return
        self.record(f"pause {name} for {seconds:.1f} s")
        member.paused_until = self.clock() + seconds
        if seconds > LEASE_SECONDS:
            self.deposed.append(member)
            loop = asyncio.get_running_loop()
            loop.call_later(LEASE_SECONDS, self._depose, member)
            loop.call_later(seconds + 3, self._cancel, member)

    def _depose(self, member: Member) -> None:
        member.is_deposed = True
        if self.members.get(member.name) is member:
            self.launch(member.name)

    @staticmethod
    def _cancel(member: Member) -> None:
        if member.task is not None:
            member.task.cancel()
