"""The gateway: takes a request to the engine that serves it.

It has no sockets: `http` hands it bodies, and sends them when the gateway says so.

A request for a Model that is not ready is queued, and while any is queued the gateway publishes a wake hint
once a second. It is released as soon as the Model is ready, or answered with an error: at its deadline, or
at once when waiting cannot help.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TypeVar

import msgspec

from flexinfer import backends
from flexinfer.api.model import Model, seconds
from flexinfer.events import events
from flexinfer.proxy import errors, openai, routing
from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.breaker import Admission, QueueFullError
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.view import ModelView, Route
from flexinfer.runtime.runtime import Runtime

T = TypeVar("T")
log = logging.getLogger(__name__)
WAKE_SECONDS = 1.0
MAX_ATTEMPTS = 20
RECONNECT_SECONDS = 0.5
_MAX_LISTED = 20
_SHORTEST_CONNECT_SECONDS, _LONGEST_CONNECT_SECONDS = 0.5, 5.0
_LONGEST_QUEUED_SECONDS = 24 * 3600.0
"""No request is queued longer, whatever the Model's coldStartTimeout says."""


class ProxiedRequest(msgspec.Struct, frozen=True):
    """A request whose Model is known: what is sent to the engine, and until when it may be queued.

    `received` and `deadline` are seconds of the monotonic clock.
    """

    route: Route
    path: str
    body: bytes
    received: float
    deadline: float


class Gateway:
    """Finds Models, queues requests, and sends them when their engine is ready."""

    def __init__(self, runtime: Runtime, view: ModelView, activity: ActivityReporter) -> None:
        self._runtime, self._view, self._activity = runtime, view, activity
        self.default_namespace = runtime.settings.default_namespace
        self._wakes: set[Route] = set()  # whose wake hints are published

    @property
    def models(self) -> list[Model]:
        """All Models."""
        return list(self._view.table.models.values())

    def find(self, name: str) -> Model:
        """Return a Model by the name that clients use; raises RequestError (404)."""
        table = self._view.table
        model = table.models.get(name) if "/" in name else None
        model = model or routing.find_model(name, table, self.default_namespace)
        if model is None:
            available = sorted(routing.public_id(m, self.default_namespace) for m in table.models.values())
            raise errors.model_not_found(name, available[:_MAX_LISTED])
        return model

    def resolve(self, path: str, host: str, body: bytes) -> ProxiedRequest:
        """Return the request that a POST makes; raises RequestError (400, 404) for what names no Model."""
        match = routing.match_request(path, host)
        fields, whole = openai.read(body)
        if match.key is None and not fields.model:
            raise errors.model_missing()
        model = self.find(match.key or fields.model)
        name = _served_name(model)
        if whole.get("model") != name:
            body = openai.with_model(whole, name)
        received = self._runtime.clock()
        deadline = received + _cold_start_seconds(model)
        return ProxiedRequest(self._view.route(model), match.path, body, received, deadline)

    async def forward(self, request: ProxiedRequest, send: Callable[[str], Awaitable[T]]) -> T:
        """Return what `send` returns for the engine's host:port; raises RequestError.

        `send` raises ConnectError if the engine took nothing of the request; only then is it sent again.
        """
        route = request.route
        for attempt in range(1, MAX_ATTEMPTS + 1):
            async with self.acquire(request) as address:
                try:
                    return await send(address)
                except ConnectError as error:
                    log.info("%s at %s refused the connection: %s", route.model.key, address, error)
            self._view.recheck(route)
            left = request.deadline - self._runtime.clock()
            if attempt == MAX_ATTEMPTS or left <= 0:
                break
            await route.wait_for_change(address, min(RECONNECT_SECONDS, left))
        raise errors.connections_refused(route.model, address, attempt)

    def connect_seconds(self, request: ProxiedRequest) -> float:
        """Return how long a connection to the engine may take: what is left of the request's time."""
        left = request.deadline - self._runtime.clock()
        return min(_LONGEST_CONNECT_SECONDS, max(_SHORTEST_CONNECT_SECONDS, left))

    @contextlib.asynccontextmanager
    async def acquire(self, request: ProxiedRequest) -> AsyncIterator[str]:
        """Hold a slot of the request's Model; yields host:port of its engine.

        Queues the request until the Model is ready and has a slot. Raises RequestError when the Model cannot
        become ready, the queue is full, or the deadline passes.
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
                self._activity.record(route)
                yield admission
        except QueueFullError as error:
            raise errors.queue_full(route.model, str(error)) from None
        finally:
            self._activity.record(route)

    async def _wait(self, request: ProxiedRequest, admission: Admission) -> None:
        """Wait in the queue, and have the Model started; raises RequestError at the deadline."""
        self._ensure_wakes(request.route)
        try:
            async with asyncio.timeout(max(0.0, request.deadline - self._runtime.clock())):
                await admission
        except TimeoutError:
            raise self._timed_out(request) from None

    def _timed_out(self, request: ProxiedRequest) -> RequestError:
        route, waited = request.route, self._runtime.clock() - request.received
        if route.address:
            return errors.no_slot_in_time(route.model, waited, route.breaker.in_flight)
        return errors.not_ready_in_time(route.model, waited)

    def _ensure_wakes(self, route: Route) -> None:
        if route not in self._wakes:
            self._wakes.add(route)
            self._runtime.spawn_background(self._publish_wakes(route))

    async def _publish_wakes(self, route: Route) -> None:
        """Publish a wake hint now and every second while requests are queued: hints may be lost."""
        meta = route.model.metadata
        try:
            while route.breaker.queued and not route.deleted:
                await self._runtime.bus.publish(
                    events.WakeRequested(namespace=meta.namespace, name=meta.name, uid=meta.uid)
                )
                await self._runtime.sleep(WAKE_SECONDS)
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
