"""One HTTP session to an API server: addresses, TLS, authentication, proxies.

Nothing here knows what is sent or what a status means. Where the way comes from is `kubeconfig`'s, requests
and errors of the Kubernetes API are `client`'s.
"""

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

import aiohttp

from flexinfer.runtime.kubernetes.environment_proxy import proxy_for
from flexinfer.runtime.kubernetes.kubeconfig import Access

_READ_BYTES = 1 << 21
"""An object may be this large, and a watch sends it in one line."""
_UNAUTHORIZED = 401


class Transport:
    """An open session.

    Requests raise aiohttp.ClientError, TimeoutError or OSError without an answer, AccessError without
    credentials.
    """

    def __init__(self, access: Access, session: aiohttp.ClientSession, proxy: str) -> None:
        self.access, self._session, self._proxy = access, session, proxy

    @contextlib.asynccontextmanager
    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        data: bytes | None,
        limits: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and yield its response, of any status."""
        url = f"{self.access.server}{path}" + (f"?{urlencode(query)}" if query else "")
        async with self._session.request(
            method,
            url,
            data=data,
            headers={**headers, **await self.access.credentials.headers()},
            timeout=limits,
            proxy=self._proxy or None,
            server_hostname=self.access.server_name or None,
        ) as response:
            if response.status == _UNAUTHORIZED:
                self.access.credentials.reject()
            yield response


@contextlib.asynccontextmanager
async def opened(access: Access) -> AsyncIterator[Transport]:
    """Open a session, whose requests go by the kubeconfig's proxy, else by the environment's.

    The environment is read here, once: aiohttp's `trust_env` would look for proxies and for ~/.netrc in a thread, for every request, and
    knows neither networks in NO_PROXY nor that this machine is reached without a proxy.
    """
    connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True)
    proxy = access.proxy or ("" if access.direct else proxy_for(access.server, os.environ))
    async with aiohttp.ClientSession(connector=connector, read_bufsize=_READ_BYTES) as session:
        yield Transport(access, session, proxy)


async def lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of a watch; an object may be larger than aiohttp's own limit for a line."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            if line.strip():
                yield line
