"""Health: /healthz, /readyz, /version and /metrics of a process, on one port.

What ready means is `readiness`'s; /readyz says why a process is not, and counts the unexpected errors of one that is.
Served on asyncio streams: four short responses need no web framework, and half of the components have no other use
for one.
"""

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from flexinfer.runtime import exposition, metrics
from flexinfer.runtime.metrics import Sample
from flexinfer.runtime.readiness import Readiness

log = logging.getLogger(__name__)
METRICS = "/metrics"
_PIECES_AT_ONCE = 100
_HEAD_BYTES = 16 * 1024
_HEAD_SECONDS = 5.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RETRY_SECONDS = 1.0
_STATUS_TEXTS = {200: "OK", 404: "Not Found", 503: "Service Unavailable"}


class Health:
    """Readiness and version of a process and its components."""

    def __init__(self, build: str, components: Sequence[Readiness]) -> None:
        self._build, self._components = build, components

    def _reasons(self) -> str:
        """Return why the process is not ready, with the components that it is true of; empty if it is ready."""
        names: dict[str, list[str]] = {}
        for component in self._components:
            names.setdefault(component.reason(), []).append(component.name)
        names.pop("", None)
        if len(self._components) == 1:
            return "".join(names)
        return "; ".join(f"{reason} ({', '.join(of)})" for reason, of in names.items())

    def _failures(self) -> str:
        """Return the unexpected errors of the components, as an addition to `ready`."""
        counts = [(component.name, component.failures()) for component in self._components]
        return "".join(f"; {name}: {failures}" for name, failures in counts if failures)

    def answer(self, path: str) -> tuple[int, str]:
        """Return HTTP status and body for a path."""
        if path == "/healthz":
            return 200, "ok"
        if path == "/readyz":
            reasons = self._reasons()
            return (503, f"not ready: {reasons}") if reasons else (200, f"ready{self._failures()}")
        if path == "/version":
            return 200, self._build
        if path == METRICS:
            return 200, "".join(self.metrics())
        return 404, "not found; paths are /healthz, /readyz, /version and /metrics"

    def metrics(self) -> Iterator[str]:
        """Yield the metrics of all components, piece by piece."""
        return exposition.pieces(self._samples())

    def _samples(self) -> Iterator[Sample]:
        yield Sample(metrics.BUILD_INFO, {"build": self._build}, 1)
        for one in self._components:
            own = {"component": one.name}
            yield Sample(metrics.READY, own, float(not one.reason()))
            yield Sample(metrics.ERRORS, own, one.errors)
            for cause in metrics.CAUSES:
                yield Sample(metrics.PROBLEM, own | {"cause": cause}, one.problem_seconds(cause))
            yield from one.source()


@contextlib.asynccontextmanager
async def served(health: Health, host: str, port: int, port_file: str = "") -> AsyncIterator[int]:
    """Serve health on host:port (0: any free port, written to port_file); yields the port.

    Raises OSError if the port is taken.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=_HEAD_SECONDS)
            _, _, target = head.partition(b" ")
            path = target.partition(b" ")[0].decode(errors="replace").partition("?")[0]
            if path == METRICS:
                writer.write(_response(200, await _joined(health.metrics()), exposition.CONTENT_TYPE))
            else:
                writer.write(_response(*health.answer(path)))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, host, port, limit=_HEAD_BYTES)
    actual_port: int = server.sockets[0].getsockname()[1]
    if port_file:
        publish_port(port_file, actual_port)
    try:
        yield actual_port
    finally:
        server.close()


async def _joined(pieces: Iterator[str]) -> str:
    """Return pieces as one text, with a turn for other work every millisecond or so: a proxy of 1,000 Models has 74,000 lines."""
    text = []
    for number, piece in enumerate(pieces):
        text.append(piece)
        if number % _PIECES_AT_ONCE == 0:
            await asyncio.sleep(0)
    return "".join(text)


def _response(status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status} {_STATUS_TEXTS[status]}\r\nContent-Type: {content_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


def publish_port(path: str, port: int) -> None:
    """Write a port into a file, atomically; on a full disk it is served all the same, and written once there is room.

    Raises OSError for any other cause.
    """
    target = Path(path)
    draft = target.with_name(f"{target.name}.new")
    try:
        draft.write_text(f"{port}\n")
        draft.replace(target)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        log.warning("%s is not written yet: %s", path, error.strerror)
        asyncio.get_running_loop().call_later(_RETRY_SECONDS, publish_port, path, port)
