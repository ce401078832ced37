"""HTTP: the door's sockets, by aiohttp, whose strict parser refuses what two servers could read differently.

A stream whose engine died ends in an error event and an aborted connection, never in a clean end. A request is sent again only when the
connection was refused, so that no byte of it can have been taken.
"""

import hmac
import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from flexinfer.proxy import openai, routing
from flexinfer.proxy.gateway import Door, Errand
from flexinfer.proxy.openai import Refusal

log = logging.getLogger(__name__)
BODY_LIMIT = 16 << 20
_TRIES = 20
_LARGE = 1 << 19
"""aiohttp sends a body of this size piece by piece only when it is given as a file."""
_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "content-length",
        "host",
        "authorization",
        "accept-encoding",
        "content-encoding",
    }
)
_CUT = msgspec.json.encode(
    {
        "error": {
            "message": "the engine ended in the middle of its answer",
            "type": "upstream_error",
            "param": None,
            "code": "upstream_disconnected",
        }
    }
)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(door: Door, session: aiohttp.ClientSession, key: str) -> web.Application:
    """Return the door as an aiohttp application; an empty key asks for none."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _authorise(request, key)
            return await handler(request)
        except Refusal as refusal:
            return _refused(refusal)
        except web.HTTPRequestEntityTooLarge:
            limit = BODY_LIMIT >> 20
            return _refused(Refusal(413, f"the body is larger than {limit} MiB", "body_too_large"))
        except web.HTTPException as error:
            code = "not_found" if error.status == 404 else "invalid_request"  # noqa: PLR2004
            return _refused(Refusal(error.status, f"{request.method} {request.path}: {error.reason}", code))

    app = web.Application(client_max_size=BODY_LIMIT, middlewares=[guarded])
    handlers = _Handlers(door, session)
    app.router.add_get("/healthz", handlers.health)
    for prefix in ("", "/model/{namespace}/{name}"):
        app.router.add_get(f"{prefix}/v1/models", handlers.models)
        app.router.add_get(f"{prefix}/v1/models/{{model:.+}}", handlers.model)
        app.router.add_post(f"{prefix}/v1/{{rest:.+}}", handlers.post)
    return app


def _authorise(request: web.Request, key: str) -> None:
    if not key or request.path == "/healthz":
        return
    given = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), key.encode()):
        raise Refusal(401, "the API key is missing or wrong", "invalid_api_key", kind="authentication_error")


def _refused(refusal: Refusal) -> web.Response:
    return web.Response(
        status=refusal.status,
        body=refusal.body(),
        headers=refusal.headers(),
        content_type="application/json",
    )


class _Handlers:
    """One method a route."""

    def __init__(self, door: Door, session: aiohttp.ClientSession) -> None:
        self._door, self._session = door, session

    async def health(self, _request: web.Request) -> web.Response:
        """Say that the door listens."""
        return web.Response(text="ok")

    async def models(self, request: web.Request) -> web.Response:
        """List the Models; below a Model's own path, that one alone."""
        goal = routing.target(request.path, request.host)
        found = [self._door.find(goal.key)] if goal.key else self._door.models
        return web.Response(body=openai.listing(found, self._door.default), content_type="application/json")

    async def model(self, request: web.Request) -> web.Response:
        """Show one Model."""
        found = self._door.find(request.match_info["model"])
        entry = msgspec.json.encode(openai.model_entry(found, self._door.default))
        return web.Response(body=entry, content_type="application/json")

    async def post(self, request: web.Request) -> web.StreamResponse:
        """Hold if need be, ask the engine, pass its answer on."""
        errand = self._door.errand(request.path, request.host, await request.read())
        for _ in range(_TRIES):
            async with self._door.admitted(errand) as address:
                try:
                    return await self._forward(request, errand, address)
                except aiohttp.ClientConnectorError as error:
                    log.info("%s at %s refuses: %s", errand.model.key, address, error)
            await self._door.moved(errand, address)
        raise Refusal(
            502, "the engine refuses connections", "bad_gateway", kind="upstream_error", retry_after=5
        )

    async def _forward(self, request: web.Request, errand: Errand, address: str) -> web.StreamResponse:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP}
        url = f"http://{address}{errand.path}"
        query = request.query_string
        small = len(errand.body) < _LARGE
        try:
            async with self._session.post(
                f"{url}?{query}" if query else url,
                data=errand.body if small else io.BytesIO(errand.body),
                headers=headers,
                allow_redirects=False,
            ) as upstream:
                return await _pass_on(request, upstream)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ClientError, OSError) as error:
            raise Refusal(
                502, f"the engine ended before it answered: {error}", "bad_gateway", kind="upstream_error"
            ) from error


async def _pass_on(request: web.Request, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    """Pass an answer on, chunk by chunk."""
    headers: Any = [(k, v) for k, v in upstream.headers.items() if k.lower() not in _HOP]
    response = web.StreamResponse(status=upstream.status, headers=headers)
    length = upstream.headers.get("Content-Length")
    if length is not None:
        response.content_length = int(length)
    await response.prepare(request)
    tail = b"\n\n"
    try:
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
            tail = (tail + chunk)[-2:]
    except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError) as error:
        log.info("the engine ended in the middle of its answer: %s", error)
        await _abort(request, response, tail, sse=upstream.content_type == "text/event-stream")
        return response
    await response.write_eof()
    return response


async def _abort(request: web.Request, response: web.StreamResponse, tail: bytes, *, sse: bool) -> None:
    """Say that the answer was cut, at an event boundary, and abort the connection."""
    if sse:
        await response.write((b"" if tail == b"\n\n" else b"\n\n") + b"data: " + _CUT + b"\n\n")
    if request.transport is not None:
        request.transport.abort() if not sse else request.transport.close()
