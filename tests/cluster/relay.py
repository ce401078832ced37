"""A relay between one service and the API server: it can hold a request, or its answer, for as long as a test needs the world to move on.

To the service it is the API server over plain HTTP; to the API server it is a client that passes on what it got, byte for byte. A request that waits
here is one that is under way in the network while its sender is paused.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

_PASSED = ("Authorization", "Content-Type", "Accept")


@dataclass
class Call:
    """One request, and the status that the API server gave it."""

    method: str
    path: str
    body: str
    status: int = 0

    @property
    def writes(self) -> bool:
        """Whether it would change something."""
        return self.method != "GET"


@dataclass
class Held:
    """A place for one request: the first that fits waits, before it is passed on or (`answered`) before its answer is."""

    method: str
    ending: str
    having: str = ""
    answered: bool = False
    call: Call | None = None
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _let_go: asyncio.Event = field(default_factory=asyncio.Event)
    _done: asyncio.Event = field(default_factory=asyncio.Event)

    def fits(self, call: Call) -> bool:
        """Tell whether this is the request that is waited for."""
        named = call.method == self.method and call.path.endswith(self.ending)
        return self.call is None and named and self.having in call.body

    async def wait(self, call: Call) -> None:
        """Hold a request until it is let go."""
        self.call = call
        self._arrived.set()
        await self._let_go.wait()

    async def arrived(self) -> None:
        """Return once it waits here."""
        await self._arrived.wait()

    async def let_go(self) -> int:
        """Pass it on; returns the status that the API server gave it."""
        self._let_go.set()
        await self._done.wait()
        return self.call.status if self.call else 0

    def answer_seen(self) -> None:
        """Say that the API server has answered."""
        self._done.set()


class Relay:
    """What one service asked, in order, and what of it waits."""

    def __init__(self, session: aiohttp.ClientSession, upstream: str) -> None:
        self._session, self._upstream = session, upstream
        self.calls: list[Call] = []
        self._places: list[Held] = []
        self.url = ""

    def hold(self, method: str, ending: str, having: str = "", *, answered: bool = False) -> Held:
        """Hold the next request with this method, this end of its path, and this in its body."""
        place = Held(method, ending, having, answered)
        self._places.append(place)
        return place

    async def passed(self, request: web.Request) -> web.Response:
        """Pass a request on."""
        body = await request.read()
        call = Call(request.method, request.path, body.decode())
        self.calls.append(call)
        place = next((place for place in self._places if place.fits(call)), None)
        if place is not None and not place.answered:
            await place.wait(call)
        headers = {name: request.headers[name] for name in _PASSED if name in request.headers}
        url = f"{self._upstream}{request.path_qs}"
        async with self._session.request(request.method, url, data=body, headers=headers) as response:
            answer, call.status = await response.read(), response.status
        if place is not None and place.answered:
            await place.wait(call)
        if place is not None:
            place.answer_seen()
        return web.Response(status=call.status, body=answer, content_type="application/json")


@contextlib.asynccontextmanager
async def relay(upstream: str, authority: str) -> AsyncIterator[Relay]:
    """Run a relay for the length of the block."""
    trusted = ssl.create_default_context(cafile=authority)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted, limit=0)) as session:
        made = Relay(session, upstream)
        application = web.Application()
        application.router.add_route("*", "/{rest:.*}", made.passed)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield made
        finally:
            await runner.cleanup()
