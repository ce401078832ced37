"""The proxy of the simulation: the real Gateway, ModelView and ActivityReporter with simulated engines.

And its clients.
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
from flexinfer.reaper.demand import VANISHED_SECONDS
from flexinfer.runtime.runtime import Runtime
from tests.simulation.checker import SERVED, Checker
from tests.simulation.node import Node

GatewayFactory = Callable[[Runtime, ModelView, ActivityReporter], Gateway]
_RESPONSE_SECONDS = 2.0


class Proxy:
    """The process of the proxy: the parts of `flexinfer.proxy`, without sockets."""

    def __init__(self, node: Node, checker: Checker, chance: random.Random, gateway: GatewayFactory) -> None:
        self._node, self._check, self._chance, self._make = node, checker, chance, gateway
        self._gateway: Gateway | None = None
        self._requests: set[asyncio.Task[None]] = set()
        self._starts = self._received = 0
        self.missed_until = 0.0
        """Until when no Model counts as idle, because a proxy ended without its shutdown message."""
        self.outcomes: Counter[str] = Counter()

    async def main(self, runtime: Runtime) -> None:
        """Run until cancelled, as by SIGKILL: requests that are queued or in flight are lost."""
        self._starts += 1
        table = ModelTable()
        activity = ActivityReporter(runtime, table, f"proxy-{self._starts}")
        view = ModelView(runtime, table, activity.publish_now)
        self._gateway = self._make(runtime, view, activity)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(view.follow())
                tasks.create_task(activity.run())
        finally:
            self._gateway = None
            self.missed_until = runtime.clock() + VANISHED_SECONDS
            for request in self._requests:
                request.cancel()

    async def request(self, key: str) -> None:
        """Send one request as a client does, and report its outcome to the checker."""
        if self._gateway is None:
            return  # connection refused
        self._received += 1
        task = asyncio.create_task(self._serve(self._gateway, key, self._received))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()

    async def _serve(self, gateway: Gateway, key: str, number: int) -> None:
        outcome = "killed with its proxy"
        try:
            request = gateway.resolve(f"/model/{key}/v1/completions", "proxy", b"{}")
            self._check.request_received(number, request.route.model)
            await gateway.forward(request, partial(self._send, request.route.model, number))
            outcome = SERVED
        except RequestError as error:
            outcome = error.code
        finally:
            self.outcomes[outcome] += 1
            self._check.request_ended(number, outcome)

    async def _send(self, model: Model, number: int, address: str) -> None:
        engine = self._node.engine(address.partition(":")[0])
        if engine is None:
            raise ConnectError("connection refused")
        self._check.request_sent(number, engine.holder[0])
        await asyncio.sleep(self._chance.random() * _RESPONSE_SECONDS)
        if engine.ended:
            raise errors.no_response(model, ConnectionResetError("the process ended"))
