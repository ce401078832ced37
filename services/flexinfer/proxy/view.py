"""The view: every Model as last observed, and a breaker for each. It follows the bus and keeps its routes while that is away."""

import asyncio
import logging
from collections.abc import Callable

from flexinfer import backends
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.proxy import routing
from flexinfer.proxy.breaker import UNLIMITED, Breaker
from flexinfer.runtime.kubernetes.api import MODELS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Disconnected, Runtime, Snapshot, Subscriptions
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.5
INTERESTS = Subscriptions(state=("model",), hints=("ready",))


class View:
    """What the door knows. `left` is told of each Model that is no longer to be asked: whoever stops it waits for our word."""

    def __init__(self, runtime: Runtime, left: Callable[[Model, Breaker], None]) -> None:
        self._runtime, self._left = runtime, left
        self.state = ObservedState()
        self.breakers: dict[str, Breaker] = {}  # uid -> its line
        self.bus_up = False
        self._confirming = False
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Fold what arrives, for ever."""
        async for delivery in self._runtime.bus.deliveries(INTERESTS):
            match delivery:
                case Snapshot(observations=whole):
                    self.bus_up = True
                    former = self.state
                    self._take(apply_events(ObservedState(deleted_versions=former.deleted_versions), whole))
                    if not self._confirming:
                        self._confirming = True
                        self._runtime.spawn_background(self._confirm())
                case Disconnected():
                    self.bus_up = False
                    self._news()
                case Observation(event=events.EngineReady() as hint):
                    self._runtime.spawn_background(self._look(hint))
                case Observation():
                    self._take(apply_events(self.state, [delivery]))

    async def _confirm(self) -> None:
        """Say ready once the API server itself has answered: what the bus remembers may be from before it went away."""
        while (model := next(iter(self.state.models.values()), None)) is not None:
            try:
                await self._runtime.cluster.get(MODELS, model.metadata.namespace, model.metadata.name)
            except NotFoundError:
                break
            except ApiError as error:
                log.info("not ready: %s", error)
                await self._runtime.sleep(_PAUSE_SECONDS)
            else:
                break
        self._runtime.set_ready(True)

    async def _look(self, hint: events.EngineReady) -> None:
        """GET a Model that is said to be ready: only one that is known, by uid."""
        known = self.state.models.get(f"{hint.namespace}/{hint.name}")
        if known is None or known.uid != hint.uid or routing.ready(known):
            return
        try:
            model = await self._runtime.cluster.get(MODELS, hint.namespace, hint.name)
        except ApiError as error:
            log.debug("ready hint for %s: %s", known.key, error)
            return
        now = self._runtime.clock()
        self._take(apply_events(self.state, [Observation(events.ModelObserved(model=model), now)]))

    def _take(self, state: ObservedState) -> None:
        former, self.state = self.state, state
        for key in former.models.keys() | state.models.keys():
            model, known = state.models.get(key), former.models.get(key)
            if model is not known and model is not None:
                self.breaker(model).resize(_capacity(model))
                if known is not None and routing.ready(known) and not routing.ready(model):
                    self._left(model, self.breaker(model))
            if known is not None and (model is None or model.uid != known.uid):
                gone = self.breakers.pop(known.uid, None)
                if gone is not None:
                    gone.resize(UNLIMITED)
        self._news()

    def breaker(self, model: Model) -> Breaker:
        """Return the line of a Model."""
        if model.uid not in self.breakers:
            self.breakers[model.uid] = Breaker()
        return self.breakers[model.uid]

    def current(self, model: Model) -> Model | None:
        """Return the Model as it is now, None when it is gone."""
        now = self.state.models.get(model.key)
        return now if now is not None and now.uid == model.uid else None

    def _news(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self) -> None:
        """Return at the next change."""
        await self._changed.wait()


def _capacity(model: Model) -> int:
    if not routing.ready(model):
        return 0
    backend = backends.find(model.spec.backend)
    known = backend.capacity(model.spec) if backend is not None else None
    return known or UNLIMITED
