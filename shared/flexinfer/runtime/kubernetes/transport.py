"""One HTTP session to an API server: addresses, TLS, authentication, proxies.

Nothing here knows what is sent or what a status means. Where the way comes from is `kubeconfig`'s, requests
and errors of the Kubernetes API are `client`'s.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode
from urllib.request import getproxies

import aiohttp

from flexinfer.runtime.kubernetes.kubeconfig import Access

_READ_BYTES = 1 << 21
"""An object may be this large, and a watch sends it in one line."""
_UNAUTHORIZED = 401


class Transport:
    """An open session.

    Requests raise aiohttp.ClientError, TimeoutError or OSError without an answer, AccessError without
    credentials.
    """

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self.access, self._session = access, session

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
            proxy=self.access.proxy or None,
            server_hostname=self.access.server_name or None,
        ) as response:
            if response.status == _UNAUTHORIZED:
                self.access.credentials.reject()
            yield response


@contextlib.asynccontextmanager
async def opened(access: Access) -> AsyncIterator[Transport]:
    """Open a session, whose requests go by the environment's proxies where it names any.

    `trust_env` is set only then: aiohttp would look for proxies and for ~/.netrc in a thread, for every
    request: two changes of threads on the way to the API server.
    """
    connector = aiohttp.TCPConnector(ssl=access.tls if access.tls is not None else True)
    async with aiohttp.ClientSession(
        connector=connector, trust_env=proxied(getproxies()), read_bufsize=_READ_BYTES
    ) as session:
        yield Transport(access, session)


def proxied(proxies: Mapping[str, str]) -> bool:
    """Tell whether an environment names a proxy; a list of hosts to reach without one (`no`) is none."""
    return any(scheme != "no" for scheme in proxies)
