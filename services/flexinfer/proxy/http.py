"""HTTP: the proxy's requests and answers, by aiohttp.

Which engine is asked, and when, is for the gateway to decide.
"""

import asyncio
import io
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import web

from flexinfer.proxy import cors, engine, errors, headers, keys, openai
from flexinfer.proxy.connections import ClosedError, NotTakenError
from flexinfer.proxy.cors import Cors
from flexinfer.proxy.errors import ConnectError, RequestError
from flexinfer.proxy.gateway import Gateway, ProxiedRequest
from flexinfer.proxy.operations import Beginning, OperationWatcher, begun_by
from flexinfer.proxy.payload import READS
from flexinfer.proxy.refusal_log import RefusalLog, Refused
from flexinfer.proxy.routing import RouteMatch
from flexinfer.proxy.traffic import CLOSED
from flexinfer.proxy.view import Route

log = logging.getLogger(__name__)
_CHUNKED_SIZE = 1 << 19
"""aiohttp sends a body of this size piece by piece only when it is given as a file."""
BODY_SECONDS = 300.0
"""A client has so long to send its whole body."""
HEALTH = "/healthz"
_MODELS = "/v1/models"
_ROUTE = web.RequestKey("route", Route)
"""The route of the Model that a request is for, once it is known."""
UNROUTED = web.AppKey("unrouted", Counter[str])
"""Code of an error -> how many requests that led to no Model were answered with it."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(gateway: Gateway, session: aiohttp.ClientSession, key: str) -> web.Application:
    """Return the proxy as an aiohttp application; an empty key lets every client in."""
    limit = gateway.body_limit
    unrouted: Counter[str] = Counter()
    entrance = _Entrance(key, limit, Cors(gateway.settings.cors_origins), gateway.clock, unrouted)
    app = web.Application(client_max_size=limit, middlewares=[entrance.answer])
    app[UNROUTED] = unrouted
    app.on_response_prepare.append(entrance.add_headers)
    handler = _Handlers(gateway, session).dispatch
    app.router.add_route("*", "/{path:.*}", handler, expect_handler=entrance.expect)
    return app


class _Entrance:
    """What every request passes and every answer gets: the key, the limit of a body in bytes, pages, and the shape of errors."""

    def __init__(
        self, key: str, limit: int, origins: Cors, clock: Callable[[], float], unrouted: Counter[str]
    ) -> None:
        self._key, self._limit, self._origins, self._clock = key, limit, origins, clock
        self._unrouted = unrouted
        self._refusals = RefusalLog(clock)

    def _admit(self, request: web.Request) -> None:
        """Raise RequestError for a client without the key, or a body that is announced as too large."""
        if request.path != HEALTH:
            keys.authorize(request.headers, self._key)
        if (request.content_length or 0) > self._limit:
            raise errors.body_too_large(self._limit)

    async def expect(self, request: web.Request) -> web.StreamResponse | None:
        """Ask for the body of a client that waits for it; any other expectation is answered with an error."""
        try:
            self._admit(request)
            await _continue(request)
        except RequestError as error:
            return self._refused(request, error, self._clock())
        return None

    @web.middleware
    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer a page's preflight request, or any other, also one that fails."""
        if cors.is_preflight(request.method, request.headers):
            return web.Response(status=204, headers=self._origins.preflight(request.headers))
        arrived_at = self._clock()
        try:
            self._admit(request)
            return await handler(request)
        except RequestError as error:
            return self._refused(request, error, arrived_at)
        except web.HTTPRequestEntityTooLarge:
            return self._refused(request, errors.body_too_large(self._limit), arrived_at)
        except web.HTTPException as error:
            message = f"{request.method} {request.rel_url.raw_path}: {error.reason}"
            return self._refused(request, RequestError(error.status, message, "invalid_request"), arrived_at)
        except Exception:
            log.exception("%s %s failed", request.method, request.rel_url.raw_path)
            return self._counted(request, errors.internal())

    def _refused(self, request: web.Request, error: RequestError, arrived_at: float) -> web.Response:
        route, waited_seconds = request.get(_ROUTE), self._clock() - arrived_at
        model = route.model.key if route is not None else ""
        refusal = Refused(request.method, request.rel_url.raw_path, model, waited_seconds)
        self._refusals.record(refusal, error)
        return self._counted(request, error)

    def _counted(self, request: web.Request, error: RequestError) -> web.Response:
        """Return an error as it is sent, and count it: for its Model if it led to one."""
        route = request.get(_ROUTE)
        traffic = route.traffic if route is not None else None
        (self._unrouted if traffic is None else traffic.errors)[error.code] += 1
        return error_response(error)

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Add what every answer has; take away aiohttp's own name."""
        response.headers.update(self._origins.headers(request.headers.get("Origin", "")))
        response.headers.popall("Server", None)


async def _continue(request: web.Request) -> None:
    """Have the client send its body; raises RequestError (417) if it expects anything else."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise errors.invalid_header("Expect", "is not 100-continue; leave it out", 417)
    if request.version >= aiohttp.HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def error_response(error: RequestError) -> web.Response:
    """Return an error as it is sent."""
    return web.Response(
        status=error.status, body=error.body(), headers=error.headers(), content_type="application/json"
    )


class _Handlers:
    """Answers requests by their normalised path."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession) -> None:
        self._gateway, self._session = gateway, session
        self._watcher = OperationWatcher(gateway.runtime, gateway.activity, session)

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        """Answer a request, or forward it."""
        if request.path != HEALTH:
            await self._gateway.models_read()
        match = self._gateway.match(request.rel_url.raw_path, request.host)
        own = self._own(match)
        if own is not None:
            if request.method not in READS:
                raise web.HTTPMethodNotAllowed(request.method, READS)
            return own
        self._gateway.check_path(request.method, match)
        return await self._forward(request)

    def _own(self, match: RouteMatch) -> web.Response | None:
        """Return what the proxy answers itself, None if it does not; raises RequestError (404)."""
        if match.path == HEALTH:
            return web.Response(text="ok")
        if match.path == _MODELS:
            return self._models(match.key)
        if match.path.startswith(f"{_MODELS}/"):
            return self._model(match.path.removeprefix(f"{_MODELS}/"))
        return None

    def _models(self, key: str | None) -> web.Response:
        """List the Models and their further names; below a Model's own path, that one alone."""
        namespace = self._gateway.default_namespace
        if key:
            body = openai.listing([self._gateway.find(key)], namespace)
        else:
            body = openai.listing(self._gateway.models, namespace, self._gateway.further_names)
        return web.Response(body=body, content_type="application/json")

    def _model(self, name: str) -> web.Response:
        """Show one Model by any of its names."""
        model = self._gateway.find(name)
        further = "" if name in {model.metadata.name, model.key} else name
        entry = openai.model_entry(model, self._gateway.default_namespace, further)
        return web.Response(body=msgspec.json.encode(entry), content_type="application/json")

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        """Forward a request to its Model's engine, as soon as that is ready."""
        arrived_at = self._gateway.clock()
        body = b"" if request.method in READS else await _read_body(request)
        proxied_request = self._gateway.resolve(
            request.rel_url.raw_path,
            request.host,
            body,
            method=request.method,
            content_type=request.headers.get("Content-Type", ""),
        )
        request[_ROUTE], proxied_request.passage.arrived_at = proxied_request.route, arrived_at
        return await self._gateway.forward(proxied_request, partial(self._send, request, proxied_request))

    async def _send(
        self, request: web.Request, proxied_request: ProxiedRequest, address: str
    ) -> web.StreamResponse:
        """Send a request to an engine and its response to the client.

        Again at once if the engine had closed an idle connection: that one is closed then, so it ends with a new one.
        Raises ConnectError, or RequestError (400, 502).
        """
        model = proxied_request.route.model
        while True:
            try:
                return await self._send_once(request, proxied_request, address)
            except NotTakenError as error:
                if not error.used:
                    raise ConnectError(str(error)) from error
                log.info("%s: its engine closed an idle connection; sending again", model.key)
                proxied_request.passage.traffic.retries[CLOSED] += 1
            except (
                aiohttp.ClientConnectorError,
                aiohttp.ConnectionTimeoutError,
                aiohttp.InvalidURL,
            ) as error:
                raise ConnectError(str(error)) from error
            except (aiohttp.ClientError, OSError) as error:
                log.info("%s: no response from its engine: %s", model.key, error)
                cause = engine.cause_of(error)
                raise errors.no_response(model, cause, retry=isinstance(error, ClosedError)) from error

    async def _send_once(
        self, request: web.Request, proxied_request: ProxiedRequest, address: str
    ) -> web.StreamResponse:
        async with self._session.request(
            proxied_request.method,
            engine.url_of(proxied_request.path, request.rel_url.raw_query_string, address),
            data=_sent(proxied_request),
            headers=headers.to_engine(request.headers),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=self._gateway.connect_seconds(proxied_request)
            ),
        ) as upstream:
            route, passage = proxied_request.route, proxied_request.passage
            passage.answer(upstream.status, is_stream=engine.is_stream(upstream))
            kind = begun_by(route, proxied_request.method, proxied_request.path)
            if kind is None or upstream.status != HTTPStatus.OK:
                return await engine.relay(request, upstream, route.model, passage)
            answer = Beginning()
            try:
                return await engine.relay(request, upstream, route.model, passage, answer.keep)
            finally:  # also for a client that has left: the operation continues
                self._watcher.follow(route, address, kind, bytes(answer.kept))


def _sent(proxied_request: ProxiedRequest) -> bytes | io.BytesIO | None:
    """Return what is sent as the body: nothing, not an empty one, for a method that has none."""
    if proxied_request.method in READS:
        return None
    return (
        proxied_request.body
        if len(proxied_request.body) < _CHUNKED_SIZE
        else io.BytesIO(proxied_request.body)
    )


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
