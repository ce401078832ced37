"""The transport of who asks often and watches: aiohttp, whose connections are kept.

Nothing here knows what is sent or what a status means. Where the way comes from is `kubeconfig`'s, requests
and errors of the Kubernetes API are `client`'s.
"""

import contextlib
from collections.abc import AsyncIterator

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
import aiohttp

from flexinfer.runtime.kubernetes.kubeconfig import Access
from flexinfer.runtime.kubernetes.transport import NoAnswerError, Request

_READ_BYTES = 1 << 21
"""An object may be this large, and a watch sends it in one line."""
_UNAUTHORIZED = 401


class PooledTransport:
    """An open session."""

    def __init__(self, access: Access, session: aiohttp.ClientSession, proxy: str) -> None:
        self._access, self._session, self._proxy = access, session, proxy

    @contextlib.asynccontextmanager
    async def request(self, request: Request) -> AsyncIterator["_Response"]:
        """Send a request and yield its response, of any status. Raises NoAnswerError, TimeoutError, OSError, AccessError."""
        limits = request.limits
        timeout = aiohttp.ClientTimeout(
            total=limits.total, sock_connect=limits.connect, sock_read=limits.quiet
        )
        try:
            async with self._session.request(
                request.method,
                self._access.server + request.target,
                data=request.data,
                headers={**request.headers, **await self._access.credentials.headers()},
                timeout=timeout,
                proxy=self._proxy or None,
                server_hostname=self._access.server_name or None,
            ) as response:
                if response.status == _UNAUTHORIZED:
                    self._access.credentials.reject()
                yield _Response(response)
        except aiohttp.ClientError as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error

    @contextlib.asynccontextmanager
    async def separate(self) -> AsyncIterator["PooledTransport"]:
        """Open a session to the same server on connections of its own."""
        async with opened(self._access, self._proxy) as session:
            yield session


class _Response:
    """An answer, as aiohttp reads it."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status, self.headers = response.status, response.headers

    async def read(self) -> bytes:
        """Return its whole body."""
        return await self._response.read()

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of a watch; an object may be larger than aiohttp's own limit for a line."""
        rest = b""
        async for chunk in self._response.content.iter_any():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if line.strip():
                    yield line


@contextlib.asynccontextmanager
async def opened(access: Access, proxy: str) -> AsyncIterator[PooledTransport]:
    """Open a session, whose requests go through a proxy; empty: none."""
    connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True)
    async with aiohttp.ClientSession(connector=connector, read_bufsize=_READ_BYTES) as session:
        yield PooledTransport(access, session, proxy)
