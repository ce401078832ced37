"""The transport of who asks once a minute at most, and is to be small: Python's own http.client, in a thread.

It takes 2 MiB where aiohttp takes 9 (`python -m benchmarks.telemetry`), which counts where a process runs on every node. Each request has a connection of
its own, and a watch would hold the thread: there is none. The way to the server is the same as that of `pooled_transport`, but for a proxy that
is itself reached by TLS.
"""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPConnection, HTTPException
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from flexinfer.api.address import host_port
from flexinfer.runtime.kubernetes.credentials import AccessError
from flexinfer.runtime.kubernetes.kubeconfig import Access
from flexinfer.runtime.kubernetes.transport import NoAnswerError, Request

_PORTS = {"http": 80, "https": 443}
_UNAUTHORIZED = 401


class _Answer(NamedTuple):
    """An answer that was read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """Return its whole body."""
        return self.body

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of a watch that has ended."""
        for line in self.body.splitlines():
            yield line


class _Connection(HTTPConnection):
    """A connection that is encrypted where the server's address says so, also through a proxy; `name` is that of its certificate."""

    def __init__(self, place: SplitResult, tls: ssl.SSLContext | None, name: str, seconds: float) -> None:
        super().__init__(place.hostname or "", place.port or _PORTS[place.scheme], timeout=seconds)
        self._tls, self._name = tls, name

    def connect(self) -> None:
        """Connect, by way of the tunnel if one was set."""
        super().connect()
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


class LightTransport:
    """A way to an API server; each request is a connection of its own."""

    def __init__(self, access: Access, proxy: str) -> None:
        self._access = access
        self._server = urlsplit(access.server)
        self._proxy = urlsplit(proxy) if proxy else None

    @contextlib.asynccontextmanager
    async def request(self, request: Request) -> AsyncIterator[_Answer]:
        """Send a request and yield its answer, of any status. Raises NoAnswerError, TimeoutError, OSError, AccessError."""
        seconds = request.limits.total
        if seconds is None:
            raise ValueError("a request without a limit would hold its thread without end")
        headers = {**request.headers, **await self._access.credentials.headers()}
        async with asyncio.timeout(seconds):
            answer = await asyncio.to_thread(self._ask, request, headers, seconds)
        if answer.status == _UNAUTHORIZED:
            self._access.credentials.reject()
        yield answer

    @contextlib.asynccontextmanager
    async def separate(self) -> AsyncIterator["LightTransport"]:
        """Yield a way to the same server; connections are never shared."""
        yield self

    def _ask(self, request: Request, headers: Mapping[str, str], seconds: float) -> _Answer:
        connection, prefix, additions = self._connection(seconds)
        target = prefix + self._server.path + request.target
        try:
            connection.request(request.method, target, request.data, {**headers, **additions})
            response = connection.getresponse()
            fields = {name.title(): value for name, value in response.getheaders()}
            return _Answer(response.status, fields, response.read())
        except HTTPException as error:
            raise NoAnswerError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _connection(self, seconds: float) -> tuple[_Connection, str, Mapping[str, str]]:
        """Return a connection, what its targets begin with, and the headers that are the proxy's."""
        server, tls = self._server, self._access.tls
        name = self._access.server_name or server.hostname or ""
        if self._proxy is None:
            return _Connection(server, tls, name, seconds), "", {}
        login = _login(self._proxy)
        connection = _Connection(self._proxy, tls, name, seconds)
        if tls is None:
            return connection, f"{server.scheme}://{server.netloc}", login
        host, port = server.hostname or "", server.port or _PORTS[server.scheme]
        connection.set_tunnel(host, port, {"Host": host_port(host, str(port)), **login})
        return connection, "", {}


@contextlib.asynccontextmanager
async def opened(access: Access, proxy: str) -> AsyncIterator[LightTransport]:
    """Yield a way to an API server through a proxy; empty: none. Raises AccessError for a proxy that is reached by TLS."""
    if proxy and not proxy.startswith("http://"):
        raise AccessError(
            f"a proxy is reached by http:// here, not by {proxy.partition('://')[0]}://; name an address of it with http://"
        )
    yield LightTransport(access, proxy)


def _login(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
