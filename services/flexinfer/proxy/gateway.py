"""The door: from a request to the engine that answers it. It knows no sockets of its own: `http` gives it bodies and takes its answers.

A request for a sleeping Model is held: it stands in the Model's line, and while anybody stands there the door says so once a second. It goes on as
soon as the Model is ready, or is answered 503 when its time is up.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import msgspec

from flexinfer import backends
from flexinfer.api.model import Model, seconds
from flexinfer.api.phase import explain
from flexinfer.events import events
from flexinfer.proxy import openai, routing
from flexinfer.proxy.activity import Ledger
from flexinfer.proxy.breaker import Breaker, LineFullError
from flexinfer.proxy.openai import Refusal
from flexinfer.proxy.view import View
from flexinfer.runtime.runtime import Runtime

WAKE_SECONDS = 1.0
RETRY_AFTER = 5
MOVED_SECONDS = 0.5


class Errand(msgspec.Struct, frozen=True):
    """A request that found its Model: what is sent to the engine."""

    model: Model
    path: str
    body: bytes
    stream: bool


class Door:
    """Finds Models, holds requests, counts them."""

    def __init__(self, runtime: Runtime, view: View, ledger: Ledger) -> None:
        self._runtime, self._view, self._ledger = runtime, view, ledger
        self._default = runtime.settings.default_namespace
        self._wakers: dict[str, asyncio.Task[None]] = {}

    @property
    def models(self) -> list[Model]:
        """Every Model that is known."""
        return list(self._view.state.models.values())

    @property
    def default(self) -> str:
        """The namespace whose Models go by their bare name."""
        return self._default

    def find(self, name: str) -> Model:
        """Return a Model by what clients call it; Refusal 404 names it."""
        models = self._view.state.models
        found = models.get(name) if "/" in name else None
        found = found or routing.resolve(name, models, self._default)
        if found is None:
            known = (
                ", ".join(sorted(routing.public_id(m, self._default) for m in models.values())[:20]) or "none"
            )
            raise Refusal(
                404,
                f"the model {name!r} does not exist; there are: {known}",
                "model_not_found",
                param="model",
            )
        return found

    def errand(self, path: str, host: str, body: bytes) -> Errand:
        """Return what a POST asks for; Refusal before anything wakes."""
        goal = routing.target(path, host)
        asked, whole = openai.read(body)
        if goal.key is None and not asked.model:
            raise Refusal(400, "the body names no model", "missing_required_parameter", param="model")
        model = self.find(goal.key or asked.model)
        backend = backends.find(model.spec.backend)
        name = model.metadata.name
        served = backend.served_name(name, model.spec) if backend is not None else name
        if whole.get("model") != served:
            body = msgspec.json.encode(whole | {"model": served})
        return Errand(model, goal.path, body, bool(asked.stream))

    @contextlib.asynccontextmanager
    async def admitted(self, errand: Errand) -> AsyncIterator[str]:
        """Hold a request until its engine may be asked; yields host:port."""
        model, breaker = errand.model, self._view.breaker(errand.model)
        self._refuse_hopeless(model)
        budget = seconds(model.spec.serverless.cold_start_timeout)
        until = self._runtime.clock() + budget
        async with contextlib.AsyncExitStack() as stack:
            place = asyncio.create_task(stack.enter_async_context(breaker.place(len(errand.body))))
            try:
                await asyncio.sleep(0)
                self._ledger.touch(model, breaker)
                if not place.done():
                    await self._held(model, breaker, place, until)
                await place
                yield self._address(model)
            except LineFullError:
                raise Refusal(
                    503,
                    f"too many requests wait for {model.metadata.name}",
                    "queue_full",
                    kind="server_error",
                    retry_after=RETRY_AFTER,
                ) from None
            finally:
                if not place.done():
                    place.cancel()
                    await asyncio.gather(place, return_exceptions=True)
                await stack.aclose()
                self._ledger.touch(model, breaker)

    def _address(self, model: Model) -> str:
        now = self._view.current(model)
        if now is None:
            raise Refusal(
                404, f"the model {model.metadata.name!r} was deleted", "model_not_found", param="model"
            )
        address = routing.ready(now)
        if not address:
            raise self._late(now, 0.0)
        return address

    async def _held(self, model: Model, breaker: Breaker, place: "asyncio.Task[None]", until: float) -> None:
        """Wait for a place: wakes the Model, and ends with a Refusal when its time is up or it can never be."""
        began = self._runtime.clock()
        self._wake(model, breaker)
        while not place.done():
            now = self._view.current(model)
            if now is None:
                return
            self._refuse_hopeless(now)
            if not self._view.bus_up and not routing.ready(now):
                raise Refusal(
                    503,
                    f"{model.metadata.name} sleeps and cannot be woken while the event bus is away",
                    "bus_away",
                    kind="server_error",
                    retry_after=RETRY_AFTER,
                )
            news = asyncio.create_task(self._view.news())
            left = until - self._runtime.clock()
            await asyncio.wait({place, news}, timeout=max(0.0, left), return_when=asyncio.FIRST_COMPLETED)
            news.cancel()
            if not place.done() and self._runtime.clock() >= until:
                raise self._late(now, self._runtime.clock() - began)

    async def moved(self, errand: Errand, address: str) -> None:
        """Wait until an engine that refused is elsewhere, or a moment has passed."""
        now = self._view.current(errand.model)
        if now is not None and routing.ready(now) == address:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MOVED_SECONDS):
                    await self._view.news()

    def _late(self, model: Model, waited: float) -> Refusal:
        why = explain(model.status.conditions, model.metadata.generation)
        return Refusal(
            503,
            f"{model.metadata.name} was not ready within {waited:.0f} s "
            f"(coldStartTimeout {model.spec.serverless.cold_start_timeout}); {why}",
            "cold_start_timeout",
            kind="server_error",
            retry_after=RETRY_AFTER,
        )

    @staticmethod
    def _refuse_hopeless(model: Model) -> None:
        said = routing.hopeless(model)
        if said is not None:
            raise Refusal(
                503,
                f"{model.metadata.name} cannot run: {said.type} is False ({said.reason}): {said.message}",
                "model_failed",
                kind="server_error",
            )

    def _wake(self, model: Model, breaker: Breaker) -> None:
        """Say that somebody asks, now and once a second while anybody waits."""
        if model.uid not in self._wakers:
            task = asyncio.create_task(self._waking(model, breaker))
            self._wakers[model.uid] = task
            task.add_done_callback(lambda _: self._wakers.pop(model.uid, None))

    async def _waking(self, model: Model, breaker: Breaker) -> None:
        meta = model.metadata
        while breaker.waiting and self._view.current(model) is not None:
            await self._runtime.bus.publish(
                events.WakeRequested(namespace=meta.namespace, name=meta.name, uid=meta.uid)
            )
            await self._runtime.sleep(WAKE_SECONDS)
