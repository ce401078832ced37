"""HTTP: the proxy's sockets, by aiohttp.

Its strict parser refuses what two servers could read differently.

Which engine is asked, and when, is for the gateway to decide.
"""

import asyncio
import hmac
import io
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp
import msgspec
from aiohttp import web

from flexinfer.proxy import engine, errors, openai, routing
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import Gateway, ProxiedRequest

log = logging.getLogger(__name__)
BODY_LIMIT = 16 << 20
_CHUNKED_SIZE = 1 << 19
"""aiohttp sends a body of this size piece by piece only when it is given as a file."""
BODY_SECONDS = 300.0
"""A client has so long to send its whole body."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gateway: Gateway, session: aiohttp.ClientSession, key: str) -> web.Application:
    """Return the proxy as an aiohttp application; an empty key lets every client in."""

    @web.middleware
    async def answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _authorize(request, key)
            return await handler(request)
        except RequestError as error:
            return _error_response(error)
        except web.HTTPRequestEntityTooLarge:
            return _error_response(errors.body_too_large(BODY_LIMIT))
        except web.HTTPException as error:
            code = "not_found" if error.status == 404 else "invalid_request"  # noqa: PLR2004
            message = f"{request.method} {request.rel_url.raw_path}: {error.reason}"
            return _error_response(RequestError(error.status, message, code))
        except Exception:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return _error_response(errors.internal())

    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[answer_errors])
    handlers = _Handlers(gateway, session)
    routes: list[tuple[str, str, Handler]] = [("GET", "/healthz", handlers.health)]
    for prefix in ("", "/model/{namespace}/{name}"):
        routes.append(("GET", f"{prefix}/v1/models", handlers.models))
        routes.append(("GET", f"{prefix}/v1/models/{{model:.+}}", handlers.model))
        routes.append(("POST", f"{prefix}/v1/{{rest:.+}}", handlers.post))
    for method, path, handler in [*routes, ("*", "/{path:.*}", handlers.unknown)]:
        app.router.add_route(method, path, handler, expect_handler=_expect)
    return app


async def _expect(request: web.Request) -> web.StreamResponse | None:
    """Ask for the body of a client that waits for it; any other expectation is answered with an error."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        return _error_response(errors.invalid_header("Expect", "is not 100-continue; leave it out", 417))
    if request.version >= aiohttp.HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    return None


def _authorize(request: web.Request, key: str) -> None:
    """Raise RequestError (401) unless the request carries the API key."""
    if not key or request.path == "/healthz":
        return
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    # A header may hold any bytes; what is not UTF-8 arrives as surrogates.
    if not hmac.compare_digest(token.encode(errors="surrogateescape"), key.encode()):
        raise errors.invalid_api_key()


def _error_response(error: RequestError) -> web.Response:
    return web.Response(
        status=error.status, body=error.body(), headers=error.headers(), content_type="application/json"
    )


class _Handlers:
    """One method per route."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self._gateway, self._session = gateway, session

    async def health(self, _request: web.Request) -> web.Response:
        """Answer that the proxy listens."""
        return web.Response(text="ok")

    async def unknown(self, request: web.Request) -> web.StreamResponse:
        """Answer what no other route does."""
        path = routing.match_request(request.rel_url.raw_path, request.host).path
        if path == "/healthz" or path.startswith("/v1/"):
            raise web.HTTPMethodNotAllowed(request.method, ())
        raise web.HTTPNotFound

    async def models(self, request: web.Request) -> web.Response:
        """List the Models; below a Model's own path, that one alone."""
        key = routing.match_request(request.rel_url.raw_path, request.host).key
        models = [self._gateway.find(key)] if key else self._gateway.models
        body = openai.listing(models, self._gateway.default_namespace)
        return web.Response(body=body, content_type="application/json")

    async def model(self, request: web.Request) -> web.Response:
        """Show one Model."""
        model = self._gateway.find(request.match_info["model"])
        body = msgspec.json.encode(openai.model_entry(model, self._gateway.default_namespace))
        return web.Response(body=body, content_type="application/json")

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Forward a request to its Model's engine, as soon as that is ready."""
        path = request.rel_url.raw_path
        proxied = self._gateway.resolve(path, request.host, await _read_body(request))
        return await self._gateway.forward(proxied, partial(self._send, request, proxied))

    async def _send(self, request: web.Request, proxied: ProxiedRequest, address: str) -> web.StreamResponse:
        """Send a request to an engine and its response to the client.

        Raises ConnectError, or RequestError (400, 502).
        """
        body = proxied.body
        try:
            async with self._session.post(
                engine.url_of(request, proxied.path, address),
                data=body if len(body) < _CHUNKED_SIZE else io.BytesIO(body),
                headers=engine.headers_of(request),
                allow_redirects=False,
                timeout=self._timeout(proxied),
            ) as upstream:
                return await engine.relay(request, upstream)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise ConnectError(str(error)) from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.no_response(proxied.route.model, error) from error

    def _timeout(self, proxied: ProxiedRequest) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=None, sock_connect=self._gateway.connect_seconds(proxied))


async def _read_body(request: web.Request) -> bytes:
    """Return the body of a request.

    Raises RequestError: 400 for one that its Content-Encoding does not describe, 408 for one that does not arrive.
    """
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError as error:
        raise errors.body_too_slow(BODY_SECONDS) from error
    except (web.RequestPayloadError, aiohttp.http.HttpProcessingError) as error:
        raise errors.invalid_body(error) from error
