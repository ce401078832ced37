"""The server: the proxy's sockets, and what is answered to that which is not HTTP.

aiohttp's strict parser refuses what two servers could read differently, before there is a request. Such an error has OpenAI's
shape too, and repeats nothing of what was sent: it may be a key.
"""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.web_protocol import RequestHandler

from flexinfer.proxy import errors
from flexinfer.proxy.cors import Cors
from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.http import UNROUTED, error_response

log = logging.getLogger(__name__)
FIELD_LIMIT = 8190
"""The largest value of a header, in bytes."""
LINE_LIMIT = 8192
"""The largest path with its query; another number than FIELD_LIMIT, since aiohttp's error tells the two apart by it alone."""
_TOO_MANY = "Too many headers"
_HEADERS_LIMIT = 128
_SERVER_ERROR = 500
_RequestHandler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class ProxyRunner(web.AppRunner):
    """Runs the proxy's application."""

    def __init__(self, app: web.Application, origins: Cors, shutdown_timeout: float) -> None:
        super().__init__(
            app,
            access_log=None,
            shutdown_timeout=shutdown_timeout,
            handler_cancellation=True,
            max_field_size=FIELD_LIMIT,
            max_line_size=LINE_LIMIT,
            max_headers=_HEADERS_LIMIT,
        )
        self._origins = origins

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        kwargs = {"request_factory": server.request_factory, **self._kwargs}
        return _Server(server.request_handler, self._origins, self.app[UNROUTED], **kwargs)


class _Server(web.Server):
    """A server whose connections answer what is not HTTP in OpenAI's shape."""

    def __init__(
        self, handler: _RequestHandler, origins: Cors, unrouted: Counter[str], **kwargs: Any
    ) -> None:
        super().__init__(handler, **kwargs)
        self._unrouted = unrouted
        self._headers = origins.headers("") | {"Server": "flexinfer-proxy"}

    def __call__(self) -> RequestHandler:
        """Return what serves one connection."""
        return _Connection(self, self._headers, self._unrouted, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    """One connection of a client."""

    def __init__(
        self, server: web.Server, headers: Mapping[str, str], unrouted: Counter[str], **kwargs: Any
    ) -> None:
        super().__init__(server, **kwargs)
        self._error_headers, self._unrouted = headers, unrouted

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 -- it repeats what was sent
    ) -> web.StreamResponse:
        """Return the answer to what the parser refused, or to a failure of the application itself."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun already")
        if status >= _SERVER_ERROR:
            log.error("a request failed", exc_info=exc)
        else:
            log.info("refused what is not HTTP: %s", type(exc).__name__)
        error = _error_of(exc) if status < _SERVER_ERROR else errors.internal()
        self._unrouted[error.code] += 1
        response = error_response(error)
        response.headers.update(self._error_headers)
        response.force_close()
        return response


def _error_of(error: BaseException | None) -> RequestError:
    """Return the error for what the parser refused; the parser's own words would repeat a part of it."""
    if isinstance(error, LineTooLong):
        line = error.args[1] == LINE_LIMIT
        return errors.head_too_large(
            errors.REQUEST_LINE if line else "a header", LINE_LIMIT if line else FIELD_LIMIT
        )
    if _TOO_MANY in str(error):
        return errors.too_many_headers(_HEADERS_LIMIT)
    if isinstance(error, BadHttpMethod):
        return errors.invalid_http("its method is none of HTTP")
    return errors.invalid_http("its first line, a header or the framing of its body is malformed")
