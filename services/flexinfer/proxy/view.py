"""The view: a route and a queue for each Model, kept up to date with what is observed.

The view follows the state stream and applies what changes to the routes. While NATS is unavailable it keeps
them: Models that are ready continue serving. A hint that an engine is ready only makes it read that Model, and so
does an engine that refuses a connection; the API server's answer counts, whatever was observed before.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence

from flexinfer import backends
from flexinfer.api.model import Model
from flexinfer.api.services import SERVICES
from flexinfer.events import events
from flexinfer.proxy import errors, routing
from flexinfer.proxy.breaker import MAX_QUEUED_BYTES, UNLIMITED, Admission, Breaker
from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.models import Change, ModelTable, version_of
from flexinfer.proxy.traffic import Traffic
from flexinfer.runtime.kubernetes.api import MODELS, ApiError, NotFoundError
from flexinfer.runtime.runtime import CaughtUp, Disconnected, Replaying, Runtime, Snapshot, subscriptions_of
from flexinfer.state.observed import Observation

log = logging.getLogger(__name__)
OUTAGE_SECONDS = 5.0
"""How long NATS may be unavailable before requests that wait for a cold start are rejected."""
_RETRY_SECONDS, _RECHECK_SECONDS = 0.5, 1.0


class Route:
    """The route to one Model (one uid): its latest state, its engine's address if ready, and its requests."""

    def __init__(self, model: Model, queue_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.breaker = Breaker(queue_bytes)
        self.operations = 0
        """How many operations run that began with a request through this proxy."""
        self.last_request: float | None = None
        """When a request of this Model last arrived, was admitted or ended, by the monotonic clock."""
        self.traffic: Traffic | None = None
        """What was counted of its requests; None before the first."""
        self.read_at = float("-inf")
        """When its Model was last read because the engine refused a connection."""
        self.deleted = False
        self._changed = asyncio.Event()
        self.address = ""
        self._readiness: asyncio.Future[None] | None = None
        """Done when the Model becomes ready or stops being ready; None while no request waits for that."""
        self.update(model)

    @property
    def in_flight(self) -> int:
        """How many requests are in flight, operations that run included."""
        return self.breaker.in_flight + self.operations

    @property
    def busy(self) -> bool:
        """Whether a request is in flight or queued, or an operation runs."""
        return self.breaker.busy or self.operations > 0

    def update(self, model: Model) -> None:
        """Take over the Model's newest state; admits queued requests when it is ready."""
        was_ready, self.model, self.address = bool(self.address), model, routing.ready_address(model)
        self.breaker.resize(_capacity(model) if self.address else 0)
        self._notify()
        if was_ready != bool(self.address):
            self._notify_readiness()

    def delete(self) -> None:
        """Mark the Model as deleted; its engine gets no more requests."""
        self.deleted, self.address = True, ""
        self.breaker.resize(0)
        self._notify()
        self._notify_readiness()

    def _notify_readiness(self) -> None:
        if self._readiness is not None:
            self._readiness.set_result(None)
            self._readiness = None

    async def wait_for_admission(self, admission: Admission, timeout: float) -> None:  # noqa: ASYNC109 -- no error
        """Return when the request may continue, when the Model becomes ready or stops being ready, or after `timeout` seconds."""
        if self._readiness is None:
            self._readiness = asyncio.get_running_loop().create_future()
        either: tuple[Admission, asyncio.Future[None]] = (admission, self._readiness)
        await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, address: str, timeout: float) -> None:  # noqa: ASYNC109 -- no error
        """Return when the Model has changed or its engine left this address, or after `timeout` seconds."""
        if self.address == address:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._changed.wait()


class ModelView:
    """The routes of all Models of a table.

    Calls `on_unready` with the route of each Model that stops being ready, and at each change of one whose
    engine is about to be stopped.
    """

    def __init__(self, runtime: Runtime, table: ModelTable, on_unready: Callable[[Route], None]) -> None:
        self._runtime, self._on_unready = runtime, on_unready
        self.table = table
        self._largest_body = runtime.settings.body_limit_mib << 20
        self.nats_available = False
        self.complete = asyncio.Event()  # once all Models were read
        self._outages = 0  # counts beginnings and ends: what waits for one sees that it has passed
        self._routes: dict[str, Route] = {}  # uid -> its route
        self._deleted: dict[str, Route] = {}  # uid -> its route before it was deleted
        self._confirmed = False

    def route(self, model: Model) -> Route:
        """Return the route of a Model of the table; raises RequestError (500) if an error left it without one."""
        if model.uid not in self._routes:
            raise errors.internal()
        return self._routes[model.uid]

    def routes(self) -> Sequence[Route]:
        """Return the routes of all Models."""
        return tuple(self._routes.values())

    def rejection(self, route: Route) -> RequestError | None:
        """Return the error that all requests of a Model get at once, or None if they may be queued."""
        if route.deleted:
            return errors.model_deleted(route.model)
        if route.address:  # also with the spec before, while a newer one is refused or cannot start
            return None
        failure = routing.permanent_failure(route.model)
        if failure is not None:
            return errors.model_failed(route.model, failure)
        return None if self.nats_available else errors.nats_unavailable(route.model)

    def recheck(self, route: Route) -> None:
        """Read a Model whose engine refused a connection: what was observed of it may be wrong.

        At most once a second.
        """
        now = self._runtime.clock()
        if now >= route.read_at + _RECHECK_SECONDS:
            route.read_at = now
            self._runtime.spawn_background(self._read(route))

    async def follow(self) -> None:
        """Apply what the bus delivers, until cancelled."""
        async for delivery in self._runtime.bus.deliveries(subscriptions_of(SERVICES["proxy"])):
            match delivery:
                case Snapshot(observations=observations):
                    self._replay(observations)
                case Disconnected():
                    self._outages += 1
                    self._runtime.spawn_background(self._outage(self._outages))
                case Replaying() | CaughtUp():
                    pass  # what is known stays: requests of Models that are not ready are queued meanwhile
                case Observation(event=events.EngineReady() as hint):
                    self._take_hint(hint)
                case Observation(event=event):
                    self._apply(self.table.apply(event))

    async def _outage(self, number: int) -> None:
        """Reject the requests of Models that are not ready, unless this outage ends soon: NATS may only restart."""
        await self._runtime.sleep(OUTAGE_SECONDS)
        if number != self._outages:
            return
        self.nats_available = False
        for route in self._routes.values():
            self._release_rejected(route)

    def _replay(self, observations: Sequence[Observation]) -> None:
        self._outages += 1
        self.nats_available = True
        self.complete.set()
        for change in self.table.replace(observation.event for observation in observations):
            self._apply(change)
        if not self._confirmed:
            self._confirmed = True
            self._runtime.spawn_background(self._confirm())

    async def _confirm(self) -> None:
        """Report ready once the API server has answered: after an outage the stream may be older."""
        while (model := next(iter(self.table.models.values()), None)) is not None:
            try:
                await self._runtime.cluster.get(MODELS, model.metadata.namespace, model.metadata.name)
            except NotFoundError:
                break
            except ApiError as error:
                log.info("not ready: %s; retrying in %s s", error, _RETRY_SECONDS)
                await self._runtime.sleep(_RETRY_SECONDS)
            else:
                break
        self._runtime.set_ready(True)

    def _take_hint(self, hint: events.EngineReady) -> None:
        """Read a Model whose engine is said to be ready, if that uid is known and not ready yet."""
        route = self._routes.get(hint.uid)
        if route is not None and not route.address and route.model.key == f"{hint.namespace}/{hint.name}":
            self._runtime.spawn_background(self._read(route))

    async def _read(self, route: Route) -> None:
        """Read a Model and believe the answer; again if the stream brought another state meanwhile.

        The answer may be older than that one, and nothing would bring it a second time.
        """
        while not route.deleted:
            before, model = route.model, None
            try:
                model = await self._runtime.cluster.get(
                    MODELS, before.metadata.namespace, before.metadata.name
                )
            except NotFoundError:
                log.info("%s no longer exists", before.key)
            except ApiError as error:
                log.info("%s could not be read: %s", before.key, error)
                return
            if route.model is before or (model is not None and _not_older(model, route.model)):
                self._take_answer(route, model)
                return

    def _take_answer(self, route: Route, model: Model | None) -> None:
        current = route.model
        if route.deleted:
            return
        if model is not None:
            self._apply(self.table.confirm(model))
        else:
            self._apply(self.table.delete(current.key, current.uid))

    def _apply(self, change: Change | None) -> None:
        """Bring the route of a Model up to date; an unexpected error costs this Model, and nothing else."""
        model = (change.after or change.before) if change is not None else None
        if change is None or model is None:
            return
        try:
            self._reroute(change)
        except Exception as error:
            log.exception("%s: its route could not be brought up to date", model.key)
            self._runtime.report_failure(model.key, error)

    def _reroute(self, change: Change) -> None:
        before, after = change
        if before is not None and (after is None or after.uid != before.uid):
            self._delete(before)
        if after is not None:
            self._update(after)

    def _delete(self, model: Model) -> None:
        route = self._routes.pop(model.uid, None)
        if route is not None:
            route.delete()
            self._release_rejected(route)
            self._deleted = {uid: r for uid, r in self._deleted.items() if r.busy}
            self._deleted[model.uid] = route

    def _update(self, model: Model) -> None:
        route = self._routes.get(model.uid)
        was_ready = route is not None and bool(route.address)
        if route is None:
            route = self._routes[model.uid] = self._restored(model)
        else:
            route.update(model)
        if not route.address and (was_ready or routing.is_stopping(model)):
            self._on_unready(route)
        self._release_rejected(route)

    def _restored(self, model: Model) -> Route:
        """Return a route for a Model without one: that of before if it was not deleted after all, since its requests count."""
        route = self._deleted.pop(model.uid, None)
        if route is None or not route.busy:
            return Route(model, max(MAX_QUEUED_BYTES, self._largest_body))
        route.deleted = False
        route.update(model)
        self._on_unready(route)  # its traffic is published at once
        return route

    def _release_rejected(self, route: Route) -> None:
        if self.rejection(route) is not None:
            route.breaker.release_queue()


def _not_older(model: Model, other: Model) -> bool:
    version = version_of(model.metadata)
    return version is not None and version >= other.metadata.version


def _capacity(model: Model) -> int:
    """Return how many requests the engine works on at once; without a limit for a config that is not a number."""
    backend = backends.find(model.spec.backend)
    try:
        capacity = backend.capacity(model.spec) if backend is not None else None
    except (ValueError, TypeError, OverflowError):
        return UNLIMITED
    return capacity if capacity is not None and capacity > 0 else UNLIMITED
