"""The HTTP part: /v1/images/generations, /v1/models, /health and /metrics."""

import asyncio
import base64
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from flexinfer.image_server import generation
from flexinfer.image_server.errors import RequestError
from flexinfer.image_server.generation import Defaults, Generation, Order
from flexinfer.image_server.worker import State, Worker

log = logging.getLogger(__name__)
LARGEST_BODY = 1 << 20
"""Bytes of a request: a prompt, no image."""
_KEEP_ALIVE = {"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """The handlers of one server."""

    def __init__(self, worker: Worker, model: str, defaults: Defaults) -> None:
        self._worker, self._model, self._defaults = worker, model, defaults
        self._created = int(time.time())

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(client_max_size=LARGEST_BODY, middlewares=[_openai_errors])
        app.router.add_post("/v1/images/generations", self._generate)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _health(self, _request: web.Request) -> web.Response:
        """200 once images can be drawn; what it says of loading changes with each stage, which the launcher takes for progress."""
        worker = self._worker
        body: dict[str, Any] = {"status": str(worker.state)}
        if worker.state is State.BROKEN:
            body["error"] = worker.detail
        elif worker.detail:
            body["stage"] = f"{worker.detail}; at least {_resident_mb()} MiB of memory in use"
        if worker.steps:
            body |= {"step": worker.step, "steps": worker.steps}
        return web.json_response(body, status=200 if worker.state is State.READY else 503)

    async def _models(self, _request: web.Request) -> web.Response:
        one = {"id": self._model, "object": "model", "created": self._created, "owned_by": "flexinfer"}
        return web.json_response({"object": "list", "data": [one]})

    async def _metrics(self, _request: web.Request) -> web.Response:
        worker = self._worker
        gauges = {
            "diffusers:requests_in_flight": worker.requests,
            "diffusers:step": worker.step,
            "diffusers:steps": worker.steps,
        }
        lines = [f"# TYPE {name} gauge\n{name} {value}\n" for name, value in gauges.items()]
        lines.append(f"# TYPE diffusers:images_total counter\ndiffusers:images_total {worker.drawn}\n")
        return web.Response(text="".join(lines), content_type="text/plain")

    async def _generate(self, request: web.Request) -> web.StreamResponse:
        order = generation.read(await request.read(), self._model, self._defaults)
        self._worker.admit()
        try:
            return await (self._streamed(request, order) if order.stream else self._whole(order))
        finally:
            self._worker.done()

    async def _whole(self, order: Order) -> web.Response:
        images = [await self._worker.draw(image, _ignored) for image in order.images]
        data = [{"b64_json": base64.b64encode(image).decode()} for image in images]
        body = {"created": int(time.time()), "data": data, "output_format": order.format}
        return web.json_response(body)

    async def _streamed(self, request: web.Request, order: Order) -> web.StreamResponse:
        """Answer each image as an event when it is drawn, and each step as a comment, which readers of events skip."""
        response = web.StreamResponse(headers=_KEEP_ALIVE)
        await response.prepare(request)
        for image in order.images:
            try:
                data = await self._with_steps(response, image)
            except RequestError as error:
                await response.write(_event("error", {"type": "error", **error.body()}))
                break
            await response.write(_event(_COMPLETED, _completed(order, data)))
        await response.write_eof()
        return response

    async def _with_steps(self, response: web.StreamResponse, image: Generation) -> bytes:
        steps: asyncio.Queue[tuple[int, int] | None] = asyncio.Queue()
        drawing = asyncio.ensure_future(
            self._worker.draw(image, lambda step, total: steps.put_nowait((step, total)))
        )
        drawing.add_done_callback(lambda _: steps.put_nowait(None))
        try:
            while (step := await steps.get()) is not None:
                await response.write(b": step %d of %d\n\n" % step)
            return await drawing
        finally:
            drawing.cancel()


def _resident_mb() -> int:
    """Return the memory of this process, rounded down to a power of two: it grows while weights are read, unlike in a load that hangs."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return 1 << (pages * os.sysconf("SC_PAGE_SIZE") >> 20).bit_length() - 1


_COMPLETED = "image_generation.completed"


def _completed(order: Order, image: bytes) -> Mapping[str, Any]:
    return {
        "type": _COMPLETED,
        "b64_json": base64.b64encode(image).decode(),
        "created_at": int(time.time()),
        "size": order.size,
        "output_format": order.format,
        "background": "opaque",
        "quality": "auto",
    }


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _ignored(_step: int, _steps: int) -> None:
    """Take no notice of a step."""


@web.middleware
async def _openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every error in OpenAI's shape."""
    try:
        return await handler(request)
    except RequestError as error:
        return _answer(error)
    except web.HTTPRequestEntityTooLarge:
        return _answer(RequestError(413, f"the body has more than {LARGEST_BODY} bytes", "request_too_large"))
    except web.HTTPException as refusal:
        message = f"{request.method} {request.path}: {refusal.reason}"
        return _answer(RequestError(refusal.status, message, "invalid_request"))
    except Exception:
        log.exception("%s %s", request.method, request.path)
        return _answer(RequestError(500, "the server failed; its log says why", "failed"))


def _answer(error: RequestError) -> web.Response:
    wait = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else {}
    headers = {"x-should-retry": "true" if wait else "false", **wait}
    return web.json_response(error.body(), status=error.status, headers=headers)
