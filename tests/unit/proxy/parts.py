"""The proxy's parts put together as in its process, on a bus that is a list and a cluster that is a dict."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestServer

from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.cors import Cors
from flexinfer.proxy.gateway import Gateway, ProxiedRequest
from flexinfer.proxy.models import ModelTable
from flexinfer.proxy.server import ProxyRunner
from flexinfer.proxy.view import ModelView
from flexinfer.runtime.kubernetes.api import Kind, NotFoundError
from flexinfer.runtime.runtime import Snapshot
from flexinfer.runtime.settings import Settings
from flexinfer.state.observed import Observation
from tests.builders import a_model
from tests.runtimes import ListBus, a_runtime
from tests.simulation.loop import run

T = TypeVar("T")
ADDRESS = "127.0.0.9:8080"
_RUNNING = ("Accepted", "Placed", "Cached")


class ScriptedCluster:
    """`get` of `runtime.api.Cluster` over a dict; `faults` are raised by the next calls, in order."""

    def __init__(self) -> None:
        self.models: dict[str, Model] = {}
        self.faults: list[Exception] = []
        self.reads: list[str] = []
        self.delays: list[asyncio.Future[None]] = []
        """What the next calls wait for, after they have read."""

    async def get(self, kind: Kind[Any], namespace: str, name: str) -> Model:
        """Return a Model."""
        self.reads.append(f"{namespace}/{name}")
        if self.faults:
            raise self.faults.pop(0)
        if f"{namespace}/{name}" not in self.models:
            raise NotFoundError(f"{kind.plural} {name} not found", 404)
        model = self.models[f"{namespace}/{name}"]
        if self.delays:
            await self.delays.pop(0)
        return model


class Parts:
    """A running proxy without sockets."""

    def __init__(self, lost: int = 0, settings: Settings | None = None) -> None:
        self.bus, self.cluster = ListBus(lost), ScriptedCluster()
        self.ready: list[bool] = []
        self.failures: list[str] = []
        runtime = a_runtime(
            "proxy",
            bus=self.bus,
            cluster=self.cluster,
            set_ready=self.ready.append,
            report_failure=lambda key, _error: self.failures.append(key),
            settings=settings or Settings(),
        )
        self.clock = runtime.clock
        table = ModelTable()
        self.activity = ActivityReporter(runtime, table, "proxy-0")
        self.view = ModelView(runtime, table, self.activity.publish_now)
        self.gateway = Gateway(runtime, self.view, self.activity)

    async def replay(self, *models: Model) -> None:
        """Deliver a snapshot of these Models."""
        await self.deliver(
            Snapshot([Observation(events.ModelObserved(model=m), self.clock()) for m in models])
        )

    async def observe(self, *observed: Model | AnyEvent) -> None:
        """Deliver events; a Model stands for its own observation, and the API server holds it too."""
        for item in observed:
            self._store(item)
            event = events.ModelObserved(model=item) if isinstance(item, Model) else item
            self.bus.queue.put_nowait(Observation(event, self.clock()))
        await settle()

    def _store(self, item: Model | AnyEvent) -> None:
        """Keep the API server in step with what is observed of Models."""
        if isinstance(item, Model):
            self.cluster.models[item.key] = item
        if isinstance(item, events.ModelDeleted):
            self.cluster.models.pop(f"{item.namespace}/{item.name}", None)

    async def deliver(self, delivery: Any) -> None:
        """Deliver anything that a bus delivers."""
        self.bus.queue.put_nowait(delivery)
        await settle()

    def published(self, kind: type[T]) -> list[T]:
        """Return the events of a kind that were published, in order."""
        return [event for event in self.bus.published if isinstance(event, kind)]

    def request(self, name: str = "llama", body: bytes = b"{}") -> ProxiedRequest:
        """Return a request of a Model in the default namespace."""
        return self.gateway.resolve(f"/model/default/{name}/v1/completions", "proxy", body)

    def send(
        self, request: ProxiedRequest | None = None, engine: Callable[[str], Awaitable[str]] | None = None
    ) -> "asyncio.Task[str]":
        """Start to forward a request; the engine responds at once with its address unless given."""
        return asyncio.create_task(self.gateway.forward(request or self.request(), engine or respond))


class ProxyServer(TestServer):
    """The proxy's application behind its own server, on a free port."""

    async def _make_runner(self, **_kwargs: Any) -> web.AppRunner:
        return ProxyRunner(self.app, Cors("*"), 1.0)


async def respond(address: str) -> str:
    """Respond at once, as an engine at this address."""
    return address


async def settle() -> None:
    """Let everything run that can, without letting time pass."""
    for _ in range(20):
        await asyncio.sleep(0)


def with_parts(
    test: Callable[[Parts], Coroutine[Any, Any, None]], lost: int = 0, settings: Settings | None = None
) -> None:
    """Run a test with a proxy that follows its bus and publishes its activity; NATS does not store the first `lost` events."""

    async def main() -> None:
        parts = Parts(lost, settings)
        work = [asyncio.create_task(parts.view.follow()), asyncio.create_task(parts.activity.run())]
        await parts.replay()
        await test(parts)
        assert parts.failures == []
        for task in work:
            assert not task.done(), task
            task.cancel()

    run(main())


def scaled_to_zero(name: str = "llama", **changes: Any) -> Model:
    """Return a Model that is scaled to zero."""
    conditions = (*_RUNNING, ("Wanted", "False", Reason.IDLE), ("Ready", "False", Reason.STOPPED))
    return a_model(name, conditions=conditions, **changes)


def ready(name: str = "llama", address: str = ADDRESS, version: int = 2, **changes: Any) -> Model:
    """Return the same Model, ready at an address."""
    status = BackendStatus(address=address)
    conditions = (*_RUNNING, "Wanted", "Granted", "Ready")
    return a_model(name, conditions=conditions, backend_status=status, version=version, **changes)


def draining(name: str = "llama", version: int = 3) -> Model:
    """Return the same Model, no longer ready."""
    conditions = (*_RUNNING, "Wanted", ("Ready", "False", Reason.DRAINING))
    return a_model(
        name, conditions=conditions, backend_status=BackendStatus(address=ADDRESS), version=version
    )


def failed(condition: str, reason: str, message: str, version: int = 3) -> Model:
    """Return the same Model with a condition that is False."""
    model = a_model(conditions=[(condition, "False", reason)], version=version)
    conditions = tuple(msgspec.structs.replace(c, message=message) for c in model.status.conditions)
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=conditions))


def deleted(model: Model, version: int = 9) -> events.ModelDeleted:
    """Return the event of a Model's deletion."""
    meta = model.metadata
    return events.ModelDeleted(namespace=meta.namespace, name=meta.name, uid=meta.uid, version=version)
