"""A simulation: API store, NATS, machines, real proxies and the six controllers, with faults from one seed."""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from flexinfer.api.groupversion import GROUP, PLURAL, VERSION
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.model import Model
from flexinfer.launcher.engine_client import Answer, Ask
from flexinfer.proxy.gateway import Gateway
from flexinfer.runtime.control_loop import run_controller
from flexinfer.runtime.kubernetes.api import ForbiddenError, Kind
from flexinfer.runtime.leader_election import while_leading
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import ObservedState
from flexinfer.watcher.__main__ import mirror
from localkube.apiserver.errors import ApiError as StoreError
from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Resource
from localkube.controllers.garbage_collector import GarbageCollector
from tests.simulation.agent import Lies
from tests.simulation.backup import Backup, RestorableStore
from tests.simulation.checker import Checker
from tests.simulation.cluster import ApiFaults
from tests.simulation.controllers import AnyController, controllers, observed
from tests.simulation.deadlines import DEADLINES, SETTINGS
from tests.simulation.jetstream.server import Chances, NatsServer
from tests.simulation.laws.memory import Memory
from tests.simulation.laws.streams import Streams
from tests.simulation.leases import LeaseTable
from tests.simulation.machines import NODES, Machines
from tests.simulation.member import Main, Member
from tests.simulation.people import People
from tests.simulation.proxy import GatewayFactory, Proxy
from tests.simulation.registry import registry

EPOCH = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SERVICES = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")
PROXIES = ("proxy", "proxy-b")
TAKEOVER_SECONDS = 6.5
"""After how long a standby is the leader at the latest."""
GARBAGE_SECONDS = 0.5


class Simulation:
    """The whole system in virtual time; `services` replace the controllers of the same name."""

    def __init__(
        self,
        seed: int,
        services: Mapping[str, AnyController] | None = None,
        gateway: GatewayFactory = Gateway,
        settings: Settings = SETTINGS,
    ) -> None:
        self.settings, self._replaced = settings, services or {}
        self.chance, self.sampling = random.Random(seed), random.Random(seed)
        self.apart = random.Random(f"apart {seed}")
        """Draws what was added last: a history without it stays as it was."""
        self.always_on = 0.0
        """The probability that a Model which is created always runs."""
        self.clock = asyncio.get_running_loop().time
        self.latency, self.clock_step = 0.006, 0.0
        self.fenced, self.same_identity = True, True
        self._uids, self._identities = itertools.count(1), itertools.count(1)
        self.store = RestorableStore(
            registry(), now=self.utc_now, new_uid=lambda: f"{next(self._uids):08d}-0000-4000-8000-0"
        )
        self.api = ApiFaults()
        self.leases = LeaseTable(self.clock)
        self.nats = NatsServer(self.chance, self.clock, EPOCH.timestamp())
        self.machines = Machines(self.store, self.nats, self.chance, self.clock)
        self.machines.growth = random.Random(f"{seed} growth")
        self.memory, self.people = random.Random(f"{seed} memory"), People(self, seed)
        self.observed: dict[str, Callable[[], ObservedState]] = {}
        self.checker = Checker(self, DEADLINES)
        self.store.observe(self.checker.written)
        self._judge_machines()
        self.silent_at: dict[str, float] = {}  # proxy -> when what it reports was last lost
        self._kind = self.named(GROUP, VERSION, PLURAL)
        self._controllers = controllers(settings, self._http_client, self._replaced)
        self.proxies = {
            name: Proxy(self.machines, self.checker, self.chance, gateway, name) for name in PROXIES
        }
        self.members: dict[str, Member] = {}
        self.replicas: list[Member] = []
        self.log: list[str] = []
        self._garbage: GarbageCollector | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    def _judge_machines(self) -> None:
        self.machines.leased, self.machines.ended = self.people.on, self.people.lose
        self.machines.started = self.checker.law(Memory).starts
        self.nats.published.append(self.checker.law(Streams).published)

    def named(self, group: str, version: str, plural: str) -> Resource:
        """Return a resource of the store."""
        resource = self.store.registry.find(group, version, plural)
        assert resource is not None
        return resource

    def utc_now(self) -> datetime:
        """Return the wall-clock time."""
        return EPOCH + timedelta(seconds=self.clock() + self.clock_step)

    def models(self) -> dict[str, Model]:
        """Return every Model of the API server by key."""
        models = [msgspec.convert(item, Model) for item in self.checker.models.values()]
        return {model.key: model for model in models}

    def record(self, what: str) -> None:
        """Add a line to the log, which is printed for a seed with problems."""
        self.log.append(f"{self.clock():8.3f} {what}")

    def failed(self, what: str, error: BaseException) -> None:
        """Report that a component failed."""
        self.checker.report(f"a component failed: {what}: {error!r}")

    def refuse_if_forbidden(self, kind: Kind[Any], namespace: str, body: Any) -> None:
        """Refuse to create an object as quota or Pod security does. Raises ForbiddenError."""
        if kind.name in self.api.broken_kinds:
            raise ForbiddenError(f"{kind.plural} is forbidden in {namespace}: exceeded quota", 403)

    def restore(self, backup: Backup) -> None:
        """Restore the API server from a backup; the machines follow it at once, and the garbage collector begins again."""
        if self._garbage is not None:
            self._garbage.close()
        self.checker.restored(self.store.restore(backup))
        self._garbage = GarbageCollector(self.store)
        self.machines.follow_backup()
        self.people.restored()

    # --- processes

    def spawn_background(self, work: Any) -> None:
        """Run a coroutine in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failed(task.get_name() if task.get_name() in SERVICES else "background", error)

    def start(self, components: Sequence[str] = ("proxy", *SERVICES)) -> None:
        """Start the machines, the proxy and every controller, or only some of them."""
        namespaces = self.named("", "v1", "namespaces")
        for name in ("default", SYSTEM_NAMESPACE):
            with contextlib.suppress(StoreError):
                body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
                self.store.create(namespaces, None, body, Options())
        self.create_claim()
        self.machines.start()
        self.spawn_background(self._collect())
        self.spawn_background(self.nats.send_heartbeats())
        for name in components:
            self.launch(name)

    def create_claim(self) -> None:
        """Create the PVC of the Models, bound."""
        claims = self.named("", "v1", "persistentvolumeclaims")
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "models", "namespace": "default"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        bound = Patch("merge", {"status": {"phase": "Bound"}})
        with contextlib.suppress(StoreError):
            self.store.create(claims, "default", claim, Options())
            self.store.patch(claims, "default", "models", bound, Options(), subresource="status")

    async def _collect(self) -> None:
        """Collect garbage shortly after every change, as the controller of Kubernetes does."""
        self._garbage, changed = GarbageCollector(self.store), asyncio.Event()
        self.store.observe(lambda _change: changed.set())
        while True:
            await changed.wait()
            await asyncio.sleep(self.chance.random() * GARBAGE_SECONDS)
            changed.clear()
            self._garbage.step()

    def launch(self, name: str) -> Member:
        """Start a new replica of a component, which takes the place of the former one."""
        number = next(self._identities)
        same = self.same_identity and not any(m.name == name and m.task for m in self.replicas)
        member = Member(self, name, "local" if same else f"pod-{number}", self._main(name))
        self.members[name] = member
        self.replicas.append(member)
        member.task = asyncio.get_running_loop().create_task(member.live(), name=name)
        self._tasks.add(member.task)
        member.task.add_done_callback(self._done)
        return member

    def _main(self, name: str) -> Main:
        if name in self.proxies:
            return self.proxies[name].main
        if name == "watcher":
            return self._watch
        return partial(run_controller, controller=observed(self._controllers[name](), self))

    async def _watch(self, runtime: Runtime) -> None:
        member = self.members["watcher"]
        bootstrap = member.connect("watcher-bootstrap")
        member.clients.append(bootstrap)
        stream = StateStream(member.client.connection, bootstrap.connection)
        await while_leading(runtime, lambda: mirror(runtime, stream))

    @contextlib.asynccontextmanager
    async def _http_client(self) -> AsyncIterator[Ask]:
        async def ask(url: str) -> Answer:
            await asyncio.sleep(0.001)
            engine = self.machines.engine(url.partition("//")[2].partition(":")[0])
            if engine is None:
                return Answer(0, detail="no connection: refused", refused=True)
            if engine.stuck:
                await asyncio.sleep(1.0)
                return Answer(0, detail="no answer: timeout")
            if url.endswith("/metrics"):
                requests = len(engine.requests)
                return Answer(200, f"llamacpp:requests_processing {requests}\nllamacpp:requests_deferred 0\n")
            return Answer(200 if engine.healthy else 503)

        yield ask

    def kill(self, member: Member, back_after: float | None = None) -> None:
        """Kill a replica; it is restarted after `back_after` seconds, or after a random delay."""
        self.record(f"kill {member.identity} at its call {member.calls}")
        self._remove(member)
        if self.members.get(member.name) is member:
            del self.members[member.name]
            delay = self.chance.random() * 2 if back_after is None else back_after
            asyncio.get_running_loop().call_later(delay, self.launch, member.name)

    def upgrade(self, settings: Settings) -> None:
        """Roll out a release that has other settings: every controller is replaced."""
        self.record("upgrade")
        self.settings = settings
        self._controllers = controllers(settings, self._http_client, self._replaced)
        for name in self._controllers:
            if name in self.members:
                self.kill(self.members[name], 0.5)

    def _remove(self, member: Member) -> None:
        member.end()
        if member in self.replicas:
            self.replicas.remove(member)

    def pause(self, name: str, seconds: float) -> None:
        """Pause a replica for some seconds; a standby is started beside it, which leads once its Lease has expired.

        The resumed replica acts for a moment more, or finds that it is not the leader, and ends.
        """
        member = self.members.get(name)
        if member is None:
            return
        self.record(f"pause {name} for {seconds:.1f} s")
        member.pause(seconds, fenced=self.fenced)
        if seconds > TAKEOVER_SECONDS:
            member.is_deposed = True
            self.launch(name)
            asyncio.get_running_loop().call_later(seconds + 3, self._remove, member)

    async def end_proxy(self, member: Member) -> None:
        """End a proxy as at SIGTERM, and start another process."""
        await self.proxies[member.name].shut_down(self.settings.drain_seconds)
        self.kill(member, 0.5)

    def lose_reports(self, seconds: float, name: str = "") -> None:
        """Note that what a proxy reports, or what all do, may be lost from now on for some seconds."""
        for proxy in self.proxies if name not in self.proxies else (name,):
            if not name or name in self.proxies:
                self.silent_at[proxy] = max(self.silent_at.get(proxy, 0.0), self.clock() + seconds)

    def calm(self) -> None:
        """End every fault that lasts, and every lease."""
        self.people.calm = True
        self.api, self.nats.faults = ApiFaults(), Chances()
        self.nats.frozen_until = self.nats.full_until = self.nats.step = 0.0
        if not self.nats.up:
            self.nats.start()
        for member in self.replicas:
            member.dies_at, member.client.lag = None, 0.0
        behaviour = self.machines.behaviour
        behaviour.hangs = 0.0
        self.machines.failing_jobs = 0.0
        for node in NODES:
            foreign = self.machines.agents[node].lies.foreign_mb
            self.machines.agents[node].lies = Lies(foreign_mb=foreign)
            self.machines.restore(node)
