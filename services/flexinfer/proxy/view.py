"""The view: every Model as last observed, and a breaker for each. It follows the bus and keeps its routes while that is away."""

import asyncio
import logging
from collections.abc import Callable

from flexinfer import backends
from flexinfer.contracts import events
from flexinfer.contracts.fleet import Arrival, Fleet, fold
from flexinfer.contracts.model import Model
from flexinfer.proxy import route
from flexinfer.proxy.breaker import UNLIMITED, Breaker
from flexinfer.runtime.api import MODELS, ApiError, NotFoundError
from flexinfer.runtime.runtime import Interests, Lost, Runtime, Snapshot

log = logging.getLogger(__name__)
_PAUSE_SECONDS = 0.5
INTERESTS = Interests(state=("model",), hints=("ready",))


class View:
    """What the door knows. `left` is told of each Model that is no longer to be asked: whoever stops it waits for our word."""

    def __init__(self, runtime: Runtime, left: Callable[[Model, Breaker], None]) -> None:
        self._runtime, self._left = runtime, left
        self.fleet = Fleet()
        self.breakers: dict[str, Breaker] = {}  # uid -> its line
        self.bus_up = False
        self._confirming = False
        self._changed = asyncio.Event()

    async def follow(self) -> None:
        """Fold what arrives, for ever."""
        async for delivery in self._runtime.bus.deliveries(INTERESTS):
            match delivery:
                case Snapshot(arrivals=whole):
                    self.bus_up = True
                    former = self.fleet
                    self._take(fold(Fleet(gone=former.gone), whole))
                    if not self._confirming:
                        self._confirming = True
                        self._runtime.beside(self._confirm())
                case Lost():
                    self.bus_up = False
                    self._news()
                case Arrival(event=events.EngineReady() as hint):
                    self._runtime.beside(self._look(hint))
                case Arrival():
                    self._take(fold(self.fleet, [delivery]))

    async def _confirm(self) -> None:
        """Say ready once the API server itself has answered: what the bus remembers may be from before it went away."""
        while (model := next(iter(self.fleet.models.values()), None)) is not None:
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
        known = self.fleet.models.get(f"{hint.namespace}/{hint.name}")
        if known is None or known.uid != hint.uid or route.ready(known):
            return
        try:
            model = await self._runtime.cluster.get(MODELS, hint.namespace, hint.name)
        except ApiError as error:
            log.debug("ready hint for %s: %s", known.key, error)
            return
        now = self._runtime.clock()
        self._take(fold(self.fleet, [Arrival(events.ModelObserved(model=model), now)]))

    def _take(self, fleet: Fleet) -> None:
        former, self.fleet = self.fleet, fleet
        for key in former.models.keys() | fleet.models.keys():
            model, known = fleet.models.get(key), former.models.get(key)
            if model is not known and model is not None:
                self.breaker(model).resize(_capacity(model))
                if known is not None and route.ready(known) and not route.ready(model):
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
        now = self.fleet.models.get(model.key)
        return now if now is not None and now.uid == model.uid else None

    def _news(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self) -> None:
        """Return at the next change."""
        await self._changed.wait()


def _capacity(model: Model) -> int:
    if not route.ready(model):
        return 0
    backend = backends.find(model.spec.backend)
    known = backend.capacity(model.spec) if backend is not None else None
    return known or UNLIMITED
