"""A relay between a component and the API server that holds a request, or its response, for a test.

To the component it is the API server over plain HTTP; to the API server it is a client that forwards each
request unchanged. A held request stands for one that is in flight in the network while its sender is paused.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypedDict, Unpack

import aiohttp
from aiohttp import web

_FORWARDED = ("Authorization", "Content-Type", "Accept")


@dataclass
class Call:
    """One request and the HTTP status of its response."""

    method: str
    path: str
    body: str
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether the request is a write."""
        return self.method != "GET"


class Others(TypedDict, total=False):
    """What else a request to be held may have to be."""

    answered: bool
    lacking: str


@dataclass
class HeldRequest:
    """Holds the first request that matches: before it is forwarded or (`answered`) before its response is.

    Its body has one text, and if `lacking` is given not that one.
    """

    method: str
    ending: str
    having: str = ""
    answered: bool = False
    lacking: str = ""
    call: Call | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    def matches(self, call: Call) -> bool:
        """Return whether this is the request to be held."""
        named = call.method == self.method and call.path.endswith(self.ending)
        lacks = not self.lacking or self.lacking not in call.body
        return self.call is None and named and self.having in call.body and lacks

    async def wait(self, call: Call) -> None:
        """Hold a request until it is released."""
        self.call = call
        self._arrived.set()
        await self._released.wait()

    async def arrived(self) -> None:
        """Return as soon as the request is held."""
        await self._arrived.wait()

    async def release(self) -> int:
        """Release the request; return the HTTP status of its response."""
        self._released.set()
        await self._done.wait()
        return self.call.status if self.call else 0

    def set_done(self) -> None:
        """Note that the API server has responded."""
        self._done.set()


class Relay:
    """The requests of one component in their order, and the rules that hold some of them."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session, self._upstream = session, upstream
        self.calls: list[Call] = []
        self._rules: list[HeldRequest] = []
        self.url = ""

    def hold(self, method: str, ending: str, having: str = "", **others: Unpack[Others]) -> HeldRequest:
        """Hold the next request with this method, path ending and part of the body."""
        rule = HeldRequest(method, ending, having, **others)
        self._rules.append(rule)
        return rule

    def writes(self, after: int = 0) -> list[Call]:
        """Return the writes, but for the first calls."""
        return [call for call in self.calls[after:] if call.writes]

    async def forward(self, request: web.Request) -> web.Response:
        """Forward a request and return the response."""
        body = await request.read()
        call = Call(request.method, request.path, body.decode())
        self.calls.append(call)
        rule = next((rule for rule in self._rules if rule.matches(call)), None)
        if rule is not None and not rule.answered:
            await rule.wait(call)
        headers = {name: request.headers[name] for name in _FORWARDED if name in request.headers}
        url = f"{self._upstream}{request.path_qs}"
        async with self._session.request(request.method, url, data=body, headers=headers) as response:
            answer, call.status = await response.read(), response.status
        if rule is not None and rule.answered:
            await rule.wait(call)
        if rule is not None:
            rule.set_done()
        return web.Response(status=call.status, body=answer, content_type="application/json")


@contextlib.asynccontextmanager
async def relay(upstream: str, authority: str) -> AsyncIterator[Relay]:
    """Run a relay for the duration of the block."""
    trusted = ssl.create_default_context(cafile=authority)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted, limit=0)) as session:
        server = Relay(session, upstream)
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", server.forward)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield server
        finally:
            await runner.cleanup()
