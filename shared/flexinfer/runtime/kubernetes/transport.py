"""Transport: HTTP to one API server, as `client` asks it, whichever library does it.

`pooled_transport` is for who asks often and watches; `light_transport` for who asks once a minute at most, and is to be small.
"""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol
from urllib.parse import urlencode

import msgspec

from flexinfer.runtime.kubernetes.environment_proxy import proxy_for
from flexinfer.runtime.kubernetes.kubeconfig import Access


class NoAnswerError(Exception):
    """There is no answer, or one that cannot be read."""


class Limits(msgspec.Struct, frozen=True):
    """How long may last, in seconds: the whole request, connecting, and a pause within the answer. None: without end."""

    total: float | None = None
    connect: float | None = None
    quiet: float | None = None


class Request(msgspec.Struct, frozen=True):
    """What is asked: JSON, by a body of the type `content` if there is one. Credentials are the transport's to add."""

    method: str
    path: str
    query: Mapping[str, str]
    limits: Limits
    data: bytes | None = None
    content: str = "json"

    @property
    def target(self) -> str:
        """Its path with the query."""
        return self.path + (f"?{urlencode(self.query)}" if self.query else "")

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers."""
        return {"Accept": "application/json", "Content-Type": f"application/{self.content}"}


class Response(Protocol):
    """An answer of any status."""

    @property
    def status(self) -> int:
        """Its HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Its headers, by names as `Retry-After`."""
        ...

    async def read(self) -> bytes:
        """Return its whole body."""
        ...

    def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of a watch, however long."""
        ...


class Transport(Protocol):
    """An open session. Requests raise NoAnswerError, TimeoutError or OSError without an answer, AccessError without credentials."""

    def request(self, request: Request) -> AbstractAsyncContextManager[Response]:
        """Send a request and yield its response, of any status."""
        ...

    def separate(self) -> AbstractAsyncContextManager["Transport"]:
        """Open a session to the same server on connections of its own."""
        ...


def opened(access: Access, *, light: bool) -> AbstractAsyncContextManager[Transport]:
    """Open a session by the one of the two that is asked for, whose requests go by the kubeconfig's proxy, else by the environment's. Raises AccessError.

    The environment is read here, once: aiohttp's `trust_env` would look for proxies and for ~/.netrc in a thread, for every request, and
    knows neither networks in NO_PROXY nor that this machine is reached without a proxy.
    """
    proxy = access.proxy or ("" if access.direct else proxy_for(access.server, os.environ))
    if light:
        from flexinfer.runtime.kubernetes import light_transport  # noqa: PLC0415 -- one of the two is used

        return light_transport.opened(access, proxy)
    from flexinfer.runtime.kubernetes import pooled_transport  # noqa: PLC0415 -- 9 MiB that a light one need not keep

    return pooled_transport.opened(access, proxy)
