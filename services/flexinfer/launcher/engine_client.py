"""The client that asks engines over HTTP.

An engine is the tenant's: it may redirect, answer without end, drip, or send what is not HTTP. Each question ends within a second, reads
a bounded answer, follows nothing, keeps nothing for the next one, and never raises.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
import aiohttp
import msgspec

from flexinfer.launcher.engine_metrics import LONGEST_TEXT

log = logging.getLogger(__name__)
ANSWER_SECONDS = 1.0
"""How long an engine may take to answer."""


class Answer(msgspec.Struct, frozen=True):
    """What an engine answered; `code` 0 with a `detail` when it did not."""

    code: int
    body: str = ""
    detail: str = ""
    refused: bool = False

    @property
    def good(self) -> bool:
        """Whether it was a success."""
        return 200 <= self.code < 300  # noqa: PLR2004 -- HTTP's own


Ask: TypeAlias = Callable[[str], Awaitable[Answer]]
"""Ask an engine; never raises, and ends within ANSWER_SECONDS."""


def engine_session(seconds: float) -> aiohttp.ClientSession:
    """Return a session for engines, each of whose questions ends within that time, in seconds."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),  # cookies of many engines would only grow
        auto_decompress=False,  # a small answer must not become a large one
        headers={"Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(total=seconds),
    )


@contextlib.asynccontextmanager
async def http_client() -> AsyncIterator[Ask]:
    """Open a client that asks engines over HTTP."""
    async with engine_session(ANSWER_SECONDS) as session:

        async def ask(url: str) -> Answer:
            try:
                async with asyncio.timeout(ANSWER_SECONDS):
                    return await request(session, url)
            except aiohttp.ClientConnectorError as error:
                return Answer(0, detail=f"no connection: {error.strerror or error}", refused=True)
            except (TimeoutError, aiohttp.ClientError, OSError) as error:
                return Answer(0, detail=f"no answer: {str(error)[:200] or type(error).__name__}")
            except Exception as error:  # noqa: BLE001 -- what is not HTTP may fail anywhere in the parser; that is the engine's fault
                log.debug("%s: what answers there is not HTTP: %s", url, type(error).__name__)
                return Answer(0, detail=f"no answer: {type(error).__name__}")

        yield ask


async def request(session: aiohttp.ClientSession, url: str, body: bytes | None = None) -> Answer:
    """Return the answer to a GET, or to a POST of JSON where a body is given.

    At most LONGEST_TEXT bytes of it are read; the connection of a longer one is closed. Raises what aiohttp raises.
    """
    method, headers = ("GET", {}) if body is None else ("POST", {"Content-Type": "application/json"})
    async with session.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
        chunks: list[bytes] = []
        remaining = LONGEST_TEXT
        while remaining > 0 and (chunk := await response.content.read(remaining)):
            chunks.append(chunk)
            remaining -= len(chunk)
        if remaining <= 0:
            response.close()
        return Answer(response.status, b"".join(chunks).decode(errors="replace"))
