"""Outbound: the proxy of each request of a download, by the rules of kubectl, whichever library sends it.

Each library reads HTTPS_PROXY and NO_PROXY in a way of its own, and none of them knows networks such as 10.0.0.0/8 in NO_PROXY. Here
every request is judged by itself, those after a redirect included: the hub may be behind the proxy, and the place that it sends to not.
"""

import contextlib
import functools
import http.client
import os
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import aiohttp
import httpx2  # comes with huggingface_hub, whose client it is
import huggingface_hub as hub
from yarl import URL

from flexinfer.api.reason import Reason
from flexinfer.prefetcher.download.failure import DownloadError
from flexinfer.runtime.kubernetes.environment_proxy import proxy_for

_SCHEMES = ("http", "https")
_VARIABLES = tuple(
    name for scheme in ("http", "https", "all") for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY")
)


def _proxy(url: str) -> str:
    proxy_url = proxy_for(url, os.environ)
    if proxy_url and urlsplit(proxy_url).scheme not in _SCHEMES:
        raise DownloadError(
            Reason.FETCH_FAILED,
            f"{_shown(proxy_url)}, the proxy for {_shown(url)}, is none of HTTP. Remedy: name one that begins with http:// or https:// in "
            "FLEXINFER_DOWNLOAD_PROXY or HTTPS_PROXY, or the host in NO_PROXY",
        )
    return proxy_url


def by_way_of(url: str) -> str:
    """Return in words by which proxy a URL is asked, without its credentials; empty: by none."""
    proxy_url = proxy_for(url, os.environ)
    return f" (by way of the proxy {_shown(proxy_url)})" if proxy_url else ""


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


@functools.cache
def tls() -> ssl.SSLContext:
    """Return the TLS context of all requests of this process: to read the authorities of a system takes as long as hundreds of requests.

    The first call comes after `authorities.use`, whose variables OpenSSL reads.
    """
    return ssl.create_default_context()


class Request(aiohttp.ClientRequest):
    """A request of aiohttp; a session that is made with this class asks for no proxy itself."""

    def update_proxy(
        self, proxy: URL | None, proxy_auth: aiohttp.BasicAuth | None, proxy_headers: object
    ) -> None:
        """Choose the proxy of this request, in place of the session's."""
        del proxy, proxy_auth, proxy_headers
        proxy_url = URL(_proxy(str(self.url)))
        if not proxy_url.host:
            super().update_proxy(None, None, None)
            return
        auth = aiohttp.BasicAuth(proxy_url.user, proxy_url.password or "") if proxy_url.user else None
        super().update_proxy(proxy_url.with_user(None), auth, None)


class Handler(urllib.request.ProxyHandler):
    """What urllib asks for the proxy of each request."""

    def __init__(self) -> None:
        super().__init__({})

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse | None:
        """Send a request through its proxy; None if it has none."""
        return self._through_proxy(request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse | None:
        """Send a request through its proxy; None if it has none."""
        return self._through_proxy(request)

    def _through_proxy(self, request: urllib.request.Request) -> http.client.HTTPResponse | None:
        proxy_url = _proxy(request.full_url)
        if not proxy_url:
            return None
        reply: http.client.HTTPResponse | None = self.proxy_open(
            request, proxy_url, urlsplit(proxy_url).scheme
        )
        return reply


class _Transport(httpx2.BaseTransport):
    """What huggingface_hub sends by: one pool of connections for each proxy, and one without."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, httpx2.HTTPTransport] = {}

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request."""
        proxy_url = _proxy(str(request.url))
        with self._lock:
            if proxy_url not in self._pools:
                self._pools[proxy_url] = httpx2.HTTPTransport(verify=tls(), proxy=proxy_url or None)
        return self._pools[proxy_url].handle_request(request)

    def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()


@contextlib.contextmanager
def _without_proxies() -> Iterator[None]:
    """Hide the proxies of the environment inside the block."""
    hidden = {name: os.environ.pop(name) for name in _VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)


def use_for_hub() -> None:
    """Have huggingface_hub send every request of this process so."""
    with (
        _without_proxies()
    ):  # its own client fails where one of them is not of HTTP, also one that no request would use
        hooks = hub.get_session().event_hooks

    def client() -> httpx2.Client:
        return httpx2.Client(event_hooks=hooks, follow_redirects=True, timeout=None, transport=_Transport())

    hub.set_client_factory(client)
