"""Server: the node's HTTPS endpoint for the API server: `/containerLogs`, as kubelet serves it, and `/healthz`.

A request needs the bearer token that the node itself sends to the API server or, where the node has a certificate in place of a token,
the API server's client certificate of the same authority. Log lines have no timestamps (processes write their logs themselves, so that
they outlive the node): `timestamps` prefixes the time of the last write to the file, and `sinceSeconds` returns nothing if that is
longer ago, else everything.
"""

import asyncio
import contextlib
import hmac
import os
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from localkube.identities import API_SERVER
from localkube.kubelet.checkpoint import ContainerRecord, PodRecord
from localkube.kubelet.kubelet import Kubelet
from localkube.kubelet.node_context import Layout

_POLL_SECONDS = 0.2
_CHUNK = 64 * 1024


def application(kubelet: Kubelet, layout: Layout, token: str, *, secure: bool) -> web.Application:
    """Return the endpoint; without a token only the API server's certificate is accepted, and every request if TLS is off."""
    logs = Logs(kubelet, layout)
    app = web.Application(middlewares=[_guard(token)] if secure or token else [])
    app.router.add_get("/healthz", _healthy)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs.answer)
    return app


class Logs:
    """The logs of containers."""

    def __init__(self, kubelet: Kubelet, layout: Layout) -> None:
        self._kubelet = kubelet
        self._layout = layout

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve one log, to its end or for as long as its container runs."""
        namespace, name, container = (request.match_info[key] for key in ("namespace", "pod", "container"))
        pod = self._kubelet.find(namespace, name)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{name}" not found on this node')
        record = pod.containers.get(container)
        if record is None or not record.attempt:
            raise web.HTTPBadRequest(
                text=f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            )
        previous = _flag(request, "previous")
        if previous and record.attempt <= 1:
            text = f'previous terminated container "{container}" in pod "{name}" not found'
            raise web.HTTPBadRequest(text=text)
        path = self._layout.log(pod.pod, container, record.attempt - int(previous))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        attempt = record.attempt
        follow = _flag(request, "follow") and not previous

        def is_running() -> bool:
            is_closed = request.transport is None or request.transport.is_closing()
            return follow and not is_closed and record.attempt == attempt and self._runs(pod, record)

        with contextlib.suppress(ConnectionResetError):  # the client closed the connection
            await _send(path, request, response, is_running)
            await response.write_eof()
        return response

    def _runs(self, pod: PodRecord, container: ContainerRecord) -> bool:
        metadata = pod.pod["metadata"]
        return (
            self._kubelet.find(metadata["namespace"], metadata["name"]) is pod
            and "running" in container.state
        )


async def _send(
    path: Path, request: web.Request, response: web.StreamResponse, is_running: Callable[[], bool]
) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        format_chunk = _formatter(file, timestamps=_flag(request, "timestamps"))
        remaining = int(request.query.get("limitBytes") or 0) or None
        _seek(file, request)
        while True:
            more = is_running()  # before the read, so that the last lines are not missed
            if os.fstat(file.fileno()).st_size < file.tell():
                file.seek(0)  # it was rotated
            while chunk := file.read(_CHUNK if remaining is None else min(remaining, _CHUNK)):
                await response.write(format_chunk(chunk))
                remaining = None if remaining is None else remaining - len(chunk)
            if not more or remaining == 0:
                return
            await asyncio.sleep(_POLL_SECONDS)


def _seek(file: BinaryIO, request: web.Request) -> None:
    """Seek to the first byte that the request asks for."""
    since = request.query.get("sinceSeconds")
    age = datetime.now(UTC).timestamp() - os.fstat(file.fileno()).st_mtime
    if since and age > float(since):
        file.seek(0, os.SEEK_END)
    tail = request.query.get("tailLines")
    if tail is not None and int(tail) >= 0:
        _seek_tail(file, int(tail))


def _seek_tail(file: BinaryIO, lines: int) -> None:
    begins: deque[int] = deque(maxlen=max(lines, 1))
    position = file.tell()
    for line in file:
        begins.append(position)
        position += len(line)
    if lines and begins:
        file.seek(begins[0])


def _formatter(file: BinaryIO, *, timestamps: bool) -> Callable[[bytes], bytes]:
    if not timestamps:
        return lambda chunk: chunk
    at_line_start = True

    def format_chunk(chunk: bytes) -> bytes:
        nonlocal at_line_start
        when = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        prefix = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
        lines = chunk.splitlines(keepends=True)
        content = b"".join(
            (b"" if i == 0 and not at_line_start else prefix) + line for i, line in enumerate(lines)
        )
        at_line_start = chunk.endswith(b"\n")
        return content

    return format_chunk


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


async def _healthy(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


def _guard(token: str) -> Middleware:
    expected_header = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Require the token or the API server's certificate, except for health."""
        header = request.headers.get("Authorization", "").encode()
        record = bool(token) and hmac.compare_digest(header, expected_header)
        if request.path != "/healthz" and not record and _peer(request) != API_SERVER:
            raise web.HTTPUnauthorized(text="Unauthorized")
        return await handler(request)

    return guard


def _peer(request: web.Request) -> str:
    """Return the common name of the client certificate, which was verified in the handshake; empty: none."""
    certificate = request.get_extra_info("peercert") or {}
    return next(
        (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName"), ""
    )
