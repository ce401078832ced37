"""The Models as last observed, with a route and a queue for each.

The view follows the state stream and applies what changes to the routes. While NATS is unavailable it keeps
them: Models that are ready go on serving. A hint that an engine is ready only makes it read that Model; it
believes the API server alone.
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
from flexinfer.proxy.breaker import UNLIMITED, Breaker
from flexinfer.proxy.errors import RequestError
from flexinfer.runtime.kubernetes.api import MODELS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Disconnected, Runtime, Snapshot, subscriptions_of
from flexinfer.state.apply import apply_events, resync
from flexinfer.state.observed import Observation, ObservedState

log = logging.getLogger(__name__)
_RETRY_SECONDS = 0.5


class Route:
    """The route to one Model (one uid): its latest state, its engine's address if ready, and its requests."""

    def __init__(self, model: Model) -> None:
        self.breaker = Breaker()
        self.last_request: float | None = None
        """When a request of this Model last arrived, was admitted or ended, by the monotonic clock."""
        self.deleted = False
        self._changed = asyncio.Event()
        self.update(model)

    def update(self, model: Model) -> None:
        """Take over the Model's newest state; admits queued requests when it is ready."""
        self.model, self.address = model, routing.ready_address(model)
        self.breaker.resize(_capacity(model) if self.address else 0)
        self._notify()

    def delete(self) -> None:
        """Mark the Model as deleted; its engine gets no more requests."""
        self.deleted, self.address = True, ""
        self.breaker.resize(0)
        self._notify()

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
    """All Models and their routes; calls `on_unready` with the route of each Model that stops being ready."""

    def __init__(self, runtime: Runtime, on_unready: Callable[[Route], None]) -> None:
        self._runtime, self._on_unready = runtime, on_unready
        self.state = ObservedState()
        self.nats_available = False
        self._routes: dict[str, Route] = {}  # uid -> its route
        self._confirmed = False

    def route(self, model: Model) -> Route:
        """Return the route of a Model that is in `state`."""
        return self._routes[model.uid]

    def rejection(self, route: Route) -> RequestError | None:
        """Return the error that all requests of a Model get at once, or None if they may be queued."""
        if route.deleted:
            return errors.model_deleted(route.model)
        failure = routing.permanent_failure(route.model)
        if failure is not None:
            return errors.model_failed(route.model, failure)
        if not route.address and not self.nats_available:
            return errors.nats_unavailable(route.model)
        return None

    async def follow(self) -> None:
        """Apply what the bus delivers, until cancelled."""
        async for delivery in self._runtime.bus.deliveries(subscriptions_of(SERVICES["proxy"])):
            match delivery:
                case Snapshot(observations=observations):
                    self._replay(observations)
                case Disconnected():
                    self.nats_available = False
                    for route in self._routes.values():
                        self._release_rejected(route)
                case Observation(event=events.EngineReady() as hint):
                    self._runtime.spawn_background(self._read(hint))
                case Observation():
                    self._apply(apply_events(self.state, [delivery]))

    def _replay(self, observations: Sequence[Observation]) -> None:
        """Replace the state by a replay of the stream; newer Models, as read from the API server, stay."""
        self.nats_available = True
        self._apply(resync(self.state, observations, self._runtime.clock()))
        if not self._confirmed:
            self._confirmed = True
            self._runtime.spawn_background(self._confirm())

    async def _confirm(self) -> None:
        """Report ready once the API server has answered: after an outage the stream may be older."""
        while (model := next(iter(self.state.models.values()), None)) is not None:
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

    async def _read(self, hint: events.EngineReady) -> None:
        """Read a Model whose engine is said to be ready, if that uid is known and not ready yet."""
        route = self._routes.get(hint.uid)
        if route is None or route.address or route.model.key != f"{hint.namespace}/{hint.name}":
            return
        try:
            model = await self._runtime.cluster.get(MODELS, hint.namespace, hint.name)
        except ApiError as error:
            log.debug("ready hint for %s: %s", route.model.key, error)
            return
        reply = Observation(events.ModelObserved(model=model), self._runtime.clock(), reply=True)
        self._apply(apply_events(self.state, [reply]))

    def _apply(self, state: ObservedState) -> None:
        """Replace the state and bring the routes of all Models that changed up to date."""
        previous, self.state = self.state, state
        for key in {**previous.models, **state.models}:
            old, new = previous.models.get(key), state.models.get(key)
            if old is not None and (new is None or new.uid != old.uid):
                self._delete(old)
            if new is not None and new is not old:
                self._update(new)

    def _delete(self, model: Model) -> None:
        route = self._routes.pop(model.uid)
        route.delete()
        self._release_rejected(route)

    def _update(self, model: Model) -> None:
        route = self._routes.get(model.uid)
        if route is None:
            self._routes[model.uid] = Route(model)
            return
        was_ready = bool(route.address)
        route.update(model)
        if was_ready and not route.address:
            self._on_unready(route)
        self._release_rejected(route)

    def _release_rejected(self, route: Route) -> None:
        if self.rejection(route) is not None:
            route.breaker.release_queue()


def _capacity(model: Model) -> int:
    backend = backends.find(model.spec.backend)
    capacity = backend.capacity(model.spec) if backend is not None else None
    return capacity or UNLIMITED
