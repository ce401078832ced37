"""The gateway: takes a request to the engine that serves it.

It has no sockets: `http` hands it bodies, and sends them when the gateway says so.

A request for a Model that is not ready is queued, and while any is queued the gateway publishes a wake hint
once a second. It is released as soon as the Model is ready, or answered with an error: at its coldStartTimeout, or
at once when waiting cannot help. A request that queues behind others of a ready Model has a limit of its own.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec

from flexinfer import backends
from flexinfer.api.durations import seconds
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.proxy import errors, payload, routing
from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.breaker import Admission, QueueFullError
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.routing import RouteMatch
from flexinfer.proxy.traffic import REFUSED, Passage, Traffic
from flexinfer.proxy.view import OUTAGE_SECONDS, ModelView, Route
from flexinfer.proxy.wait_limits import Wait, Waits
from flexinfer.runtime.runtime import Runtime

T = TypeVar("T")
log = logging.getLogger(__name__)
WAKE_SECONDS = 1.0
MAX_ATTEMPTS = 20
RECONNECT_SECONDS = 0.5
_MAX_LISTED = 20
_SHORTEST_CONNECT_SECONDS, _LONGEST_CONNECT_SECONDS = 0.5, 5.0
_SHORTEST_WAIT_SECONDS = 0.001
"""What is left of a limit by a rounding error must not become a busy loop."""
_LONGEST_QUEUED_SECONDS = 24 * 3600.0
"""No request is queued longer, whatever the Model's coldStartTimeout says."""


class ProxiedRequest(msgspec.Struct, frozen=True):
    """A request whose Model is known: what is sent to the engine, and how long it may still wait for what."""

    route: Route
    path: str
    body: bytes
    waits: Waits
    passage: Passage
    method: str = "POST"


class Gateway:
    """Finds Models, queues requests, and sends them when their engine is ready."""

    def __init__(self, runtime: Runtime, view: ModelView, activity: ActivityReporter) -> None:
        self.runtime, self._view, self.activity = runtime, view, activity
        self.settings = runtime.settings
        self.body_limit = runtime.settings.body_limit_mib << 20
        self.default_namespace = runtime.settings.default_namespace
        self._wakes: set[Route] = set()  # whose wake hints are published

    def clock(self) -> float:
        """Return the monotonic time, in seconds."""
        return self.runtime.clock()

    async def models_read(self) -> None:
        """Return once all Models were read, which a proxy that has just started does at once; without NATS after OUTAGE_SECONDS."""
        if not self._view.complete.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(OUTAGE_SECONDS):
                    await self._view.complete.wait()

    @property
    def models(self) -> list[Model]:
        """All Models. Raises RequestError (503) before they were read."""
        self._require_complete()
        return list(self._view.table.models.values())

    @property
    def further_names(self) -> dict[str, Model]:
        """Every alias and label that reaches a Model, and that Model."""
        return routing.further_names(self._view.table, self.default_namespace)

    def find(self, name: str) -> Model:
        """Return a Model by the name that clients use; raises RequestError (404, and 503 before the Models were read)."""
        table = self._view.table
        model = table.models.get(name) if "/" in name else None
        model = model or routing.find_model(name, table, self.default_namespace)
        if model is None:
            self._require_complete()
            several = routing.candidates(name, table, self.default_namespace)
            if len(several) > 1:
                raise errors.model_ambiguous(name, several[:_MAX_LISTED])
            ids = {routing.public_id(m, self.default_namespace) for m in table.models.values()}
            raise errors.model_not_found(name, sorted({*ids, *self.further_names})[:_MAX_LISTED])
        return model

    def _require_complete(self) -> None:
        """Raise RequestError (503) unless all Models were read: one that is missing then does not exist."""
        if not self._view.complete.is_set():
            raise errors.models_not_read()

    def match(self, path: str, host: str) -> RouteMatch:
        """Return what path and Host say; raises RequestError (400) for a path that is not valid."""
        return routing.match_request(path, host, self._view.table.models)

    def check_path(self, method: str, match: RouteMatch) -> None:
        """Raise RequestError (404, 405) for what the named Model's backend does not serve, or no backend if none is named."""
        self._require_served(method, match.path, self.find(match.key) if match.key is not None else None)

    def resolve(
        self, path: str, host: str, body: bytes, *, method: str = "POST", content_type: str = ""
    ) -> ProxiedRequest:
        """Return what is sent to an engine; raises RequestError (400, 404, 405) for what names no Model, or what that does not serve."""
        match = self.match(path, host)
        content = payload.read(method, body, content_type)
        name = match.key or content.model
        if not name:
            raise errors.model_missing(method, match.path)
        model = self.find(name)
        self._require_served(method, match.path, model)
        body = content.for_engine(_served_name(model))
        if (
            len(body) > self.body_limit
        ):  # the engine's own name may be longer, and what is larger could not be queued
            raise errors.body_too_large(self.body_limit)
        limits = {Wait.COLD_START: _cold_start_seconds(model), Wait.SLOT: self.settings.queue_seconds}
        route = self._view.route(model)
        route.traffic = route.traffic or Traffic(self.settings.queue_seconds)
        passage = Passage(route.traffic, self.runtime.clock)
        return ProxiedRequest(route, match.path, body, Waits(limits), passage, method)

    def _require_served(self, method: str, path: str, model: Model | None) -> None:
        methods = routing.served_methods(path, model)
        if not methods:
            raise errors.path_not_served(method, path, model, routing.served_paths(model))
        if method not in methods:
            raise errors.method_not_served(method, path, methods)

    async def forward(self, request: ProxiedRequest, send: Callable[[str], Awaitable[T]]) -> T:
        """Return what `send` returns for the engine's host:port, and count the request; raises RequestError.

        `send` raises ConnectError if the engine took nothing of the request; only then is it sent again.
        """
        route, waits = request.route, request.waits
        with request.passage:
            for attempt in range(1, MAX_ATTEMPTS + 1):
                async with self.acquire(request) as address:
                    try:
                        with waits.spending(Wait.COLD_START, self.runtime.clock):
                            return await send(address)
                    except ConnectError as error:
                        log.info("%s at %s refused the connection: %s", route.model.key, address, error)
                self._view.recheck(route)
                remaining = waits.left(Wait.COLD_START)
                if attempt == MAX_ATTEMPTS or remaining <= _SHORTEST_WAIT_SECONDS:
                    break
                with waits.spending(Wait.COLD_START, self.runtime.clock):
                    await route.wait_for_change(address, min(RECONNECT_SECONDS, remaining))
                request.passage.traffic.retries[REFUSED] += 1
            raise errors.connections_refused(route.model, attempt)

    def connect_seconds(self, request: ProxiedRequest) -> float:
        """Return how long a connection to the engine may take: what is left of the time for a cold start."""
        remaining = request.waits.left(Wait.COLD_START)
        return min(_LONGEST_CONNECT_SECONDS, max(_SHORTEST_CONNECT_SECONDS, remaining))

    @contextlib.asynccontextmanager
    async def acquire(self, request: ProxiedRequest) -> AsyncIterator[str]:
        """Hold a slot of the request's Model; yields host:port of its engine.

        Queues the request until the Model is ready and has a slot. Raises RequestError when the Model cannot
        become ready, the queue is full, or the request has waited as long as it may.
        """
        route = request.route
        while (error := self._view.rejection(route)) is None:
            with self._slot(request) as admission:
                if not admission.done():
                    await self._wait(request, admission)
                if admission.result() and route.address:
                    yield route.address
                    return
        raise error

    @contextlib.contextmanager
    def _slot(self, request: ProxiedRequest) -> Iterator[Admission]:
        """Take a slot or join the queue, and record it as activity; raises RequestError when that is full."""
        route = request.route
        try:
            with route.breaker.slot(len(request.body)) as admission:
                self.activity.record(route)
                yield admission
        except QueueFullError as error:
            raise errors.queue_full(route.model, str(error)) from None
        finally:
            self.activity.record(route)

    async def _wait(self, request: ProxiedRequest, admission: Admission) -> None:
        """Wait in the queue, and have the Model started; raises RequestError at the limit of what it waits for."""
        self._ensure_wakes(request.route)
        while not admission.done():
            wait = Wait.SLOT if request.route.address else Wait.COLD_START
            remaining = request.waits.left(wait)
            if remaining < _SHORTEST_WAIT_SECONDS:
                raise self._timed_out(request, wait)
            with request.waits.spending(wait, self.runtime.clock), request.passage.waiting(wait):
                await request.route.wait_for_admission(admission, remaining)

    def _timed_out(self, request: ProxiedRequest, wait: Wait) -> RequestError:
        route, waited_seconds = request.route, request.waits.spent[wait]
        if wait is Wait.SLOT:
            return errors.no_slot_in_time(route.model, waited_seconds, route.breaker.in_flight)
        return errors.not_ready_in_time(route.model, waited_seconds)

    def _ensure_wakes(self, route: Route) -> None:
        if route not in self._wakes:
            self._wakes.add(route)
            self.runtime.spawn_background(self._publish_wakes(route))

    async def _publish_wakes(self, route: Route) -> None:
        """Publish a wake hint now and every second while requests are queued: hints may be lost."""
        meta = route.model.metadata
        try:
            while route.breaker.queued and not route.deleted:
                await self.runtime.bus.publish(
                    events.WakeRequested(namespace=meta.namespace, name=meta.name, uid=meta.uid)
                )
                await self.runtime.sleep(WAKE_SECONDS)
        finally:
            self._wakes.discard(route)


def _served_name(model: Model) -> str:
    """Return the name by which the engine itself knows the Model."""
    name, backend = model.metadata.name, backends.find(model.spec.backend)
    return backend.served_name(name, model.spec) if backend is not None else name


def _cold_start_seconds(model: Model) -> float:
    """Return how long a request may be queued; 0 for a duration that the Model will not be accepted with."""
    try:
        return min(seconds(model.spec.serverless.cold_start_timeout), _LONGEST_QUEUED_SECONDS)
    except (ValueError, OverflowError):
        return 0.0
