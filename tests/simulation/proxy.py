"""A proxy of the simulation: the real Gateway, ModelView and ActivityReporter with simulated engines.

And its clients: they wait for the whole response, or give up.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from functools import partial

from flexinfer.api.model import Model
from flexinfer.proxy import errors
from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import Gateway
from flexinfer.proxy.models import ModelTable
from flexinfer.proxy.view import ModelView
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.demand import VANISHED_SECONDS
from tests.simulation.checker import Checker
from tests.simulation.laws.requests import SERVED
from tests.simulation.machines import Machines

GatewayFactory = Callable[[Runtime, ModelView, ActivityReporter], Gateway]
KILLED, GAVE_UP = "killed with its proxy", "its client gave up"
_STUCK_SECONDS = 20.0
"""How long a client waits for an engine that hangs."""


class Proxy:
    """One process of the proxy: the parts of `flexinfer.proxy`, without sockets."""

    def __init__(
        self, machines: Machines, checker: Checker, chance: random.Random, gateway: GatewayFactory, name: str
    ) -> None:
        self._machines, self._check, self._chance, self._make = machines, checker, chance, gateway
        self.name = name
        self._gateway: Gateway | None = None
        self._activity: ActivityReporter | None = None
        self._requests: set[asyncio.Task[str]] = set()
        self._starts = self._received = 0
        self.accepts = True
        self.missed_until = 0.0
        """Until when no Model counts as idle, because a proxy ended without its shutdown message."""
        self.outcomes: Counter[str] = Counter()

    @property
    def available(self) -> bool:
        """Whether it takes requests."""
        return self._gateway is not None and self.accepts

    async def main(self, runtime: Runtime) -> None:
        """Run until cancelled, as by SIGKILL: requests that are queued or in flight are lost."""
        self._starts += 1
        table = ModelTable()
        activity = ActivityReporter(runtime, table, f"{self.name}-{self._starts}")
        view = ModelView(runtime, table, activity.publish_now)
        self._gateway, self._activity, self.accepts = self._make(runtime, view, activity), activity, True
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(view.follow())
                tasks.create_task(activity.run())
        finally:
            self._gateway = None
            if self.accepts:
                self.missed_until = runtime.clock() + VANISHED_SECONDS
            for request in self._requests:
                request.cancel()

    async def shut_down(self, seconds: float) -> None:
        """Take no more requests, let those in flight end for some seconds, and say so: as at SIGTERM."""
        self.accepts = False
        if self._requests:
            await asyncio.wait(tuple(self._requests), timeout=seconds)
        if self._activity is not None:
            await self._activity.shut_down()

    async def request(self, key: str, seconds: float, patience: float = float("inf")) -> str:
        """Send one request as a client does, which takes the engine some seconds; returns its outcome."""
        if self._gateway is None or not self.accepts:
            return "connection refused"
        self._received += 1
        task = asyncio.create_task(self._serve(self._gateway, key, f"{self.name}/{self._received}", seconds))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        await asyncio.wait([task], timeout=None if patience == float("inf") else patience)
        if not task.done():
            task.cancel(GAVE_UP)
            await asyncio.wait([task])
        return KILLED if task.cancelled() else task.result()

    async def _serve(self, gateway: Gateway, key: str, number: str, seconds: float) -> str:
        outcome = KILLED
        try:
            request = gateway.resolve(f"/model/{key}/v1/completions", "proxy", b"{}")
            self._check.requests.received(number, request.route.model, self.name)
            await gateway.forward(request, partial(self._send, request.route.model, number, seconds))
            outcome = SERVED
        except RequestError as error:
            outcome = error.code
        except asyncio.CancelledError as cancelled:
            outcome = GAVE_UP if GAVE_UP in cancelled.args else KILLED
            raise
        finally:
            self.outcomes[outcome] += 1
            self._check.requests.ended(number, outcome)
        return outcome

    async def _send(self, model: Model, number: str, seconds: float, address: str) -> None:
        engine = self._machines.engine(address.partition(":")[0])
        if engine is None or engine.stopping:
            raise ConnectError("connection refused")
        self._check.requests.sent(number, engine)
        engine.requests[number] = self._machines.clock()
        try:
            async with asyncio.timeout(_STUCK_SECONDS if engine.stuck else seconds):
                await engine.gone.wait()
        except TimeoutError:
            if not engine.stuck:
                return
        finally:
            engine.requests.pop(number, None)
        raise errors.no_response(model, "the process ended")
