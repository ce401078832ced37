"""Server: the node's own HTTPS endpoint, as an API server uses a kubelet's: logs of containers.

It lets in whoever shows the bearer token that the node itself shows to the API, or, where the node has a certificate in place of a
token, a certificate of the same authority in the name of the API server. Lines carry no time of their own (processes write their logs
themselves, so that they outlive the node): `timestamps` prefixes the time of the last write to the file, and `sinceSeconds` shows
nothing when that is longer ago, else everything.
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

_LOOK_SECONDS = 0.2
_CHUNK = 64 * 1024


def application(kubelet: Kubelet, layout: Layout, token: str, *, secure: bool) -> web.Application:
    """Return the endpoint; an empty token lets in only the API server's certificate, and every local program where TLS is off."""
    logs = Logs(kubelet, layout)
    app = web.Application(middlewares=[_guard(token)] if secure or token else [])
    app.router.add_get("/healthz", _healthy)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", logs.answer)
    return app


class Logs:
    """What containers printed."""

    def __init__(self, kubelet: Kubelet, layout: Layout) -> None:
        self._kubelet = kubelet
        self._layout = layout

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Serve one log, to its end or for as long as its container runs."""
        namespace, name, container = (request.match_info[key] for key in ("namespace", "pod", "container"))
        pod = self._kubelet.find(namespace, name)
        if pod is None:
            raise web.HTTPNotFound(text=f'pod "{name}" not found on this node')
        known = pod.containers.get(container)
        if known is None or not known.attempt:
            raise web.HTTPBadRequest(
                text=f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating'
            )
        previous = _flag(request, "previous")
        if previous and known.attempt <= 1:
            text = f'previous terminated container "{container}" in pod "{name}" not found'
            raise web.HTTPBadRequest(text=text)
        path = self._layout.log(pod.pod, container, known.attempt - int(previous))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        attempt = known.attempt
        follow = _flag(request, "follow") and not previous

        def goes_on() -> bool:
            gone = request.transport is None or request.transport.is_closing()
            return follow and not gone and known.attempt == attempt and self._runs(pod, known)

        with contextlib.suppress(ConnectionResetError):  # whoever asked has heard enough
            await _send(path, request, response, goes_on)
            await response.write_eof()
        return response

    def _runs(self, pod: PodRecord, container: ContainerRecord) -> bool:
        metadata = pod.pod["metadata"]
        return (
            self._kubelet.find(metadata["namespace"], metadata["name"]) is pod
            and "running" in container.state
        )


async def _send(
    path: Path, request: web.Request, response: web.StreamResponse, goes_on: Callable[[], bool]
) -> None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        shape = _shaper(file, timestamps=_flag(request, "timestamps"))
        left = int(request.query.get("limitBytes") or 0) or None
        _seek(file, request)
        while True:
            more = goes_on()  # asked before the read, so that the last words are not missed
            while chunk := file.read(_CHUNK if left is None else min(left, _CHUNK)):
                await response.write(shape(chunk))
                left = None if left is None else left - len(chunk)
            if not more or left == 0:
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _seek(file: BinaryIO, request: web.Request) -> None:
    """Go to where the request wants to begin."""
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


def _shaper(file: BinaryIO, *, timestamps: bool) -> Callable[[bytes], bytes]:
    if not timestamps:
        return lambda chunk: chunk
    fresh = True

    def shape(chunk: bytes) -> bytes:
        nonlocal fresh
        when = datetime.fromtimestamp(os.fstat(file.fileno()).st_mtime, UTC)
        prefix = when.strftime("%Y-%m-%dT%H:%M:%S.%fZ ").encode()
        lines = chunk.splitlines(keepends=True)
        shaped = b"".join((b"" if i == 0 and not fresh else prefix) + line for i, line in enumerate(lines))
        fresh = chunk.endswith(b"\n")
        return shaped

    return shape


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "").lower() in ("true", "1")


async def _healthy(_request: web.Request) -> web.StreamResponse:
    return web.Response(text="ok")


def _guard(token: str) -> Middleware:
    expected = f"Bearer {token}".encode()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let only those in who know the token or are the API server; health may be asked by anybody."""
        shown = request.headers.get("Authorization", "").encode()
        known = bool(token) and hmac.compare_digest(shown, expected)
        if request.path != "/healthz" and not known and _peer(request) != API_SERVER:
            raise web.HTTPUnauthorized(text="Unauthorized")
        return await handler(request)

    return guard


def _peer(request: web.Request) -> str:
    """Return the common name in the certificate that the other side showed; it was verified when the connection began."""
    shown = request.get_extra_info("peercert") or {}
    return next(
        (value for part in shown.get("subject", ()) for key, value in part if key == "commonName"), ""
    )
