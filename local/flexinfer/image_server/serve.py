"""One server from its start to its end: listens at once, loads, serves, and finishes what it has taken after SIGTERM."""

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator

from aiohttp import web

from flexinfer.image_server.app import Api
from flexinfer.image_server.pipeline import Load
from flexinfer.image_server.settings import Settings
from flexinfer.image_server.worker import State, Worker

log = logging.getLogger(__name__)
_ENDS = (signal.SIGTERM, signal.SIGINT)
INTERRUPT_SECONDS = 5.0
"""How long the present step may continue after that."""
LINGER_SECONDS = 1.0
"""How long a server whose pipeline is broken still says so at /health, before it ends to be started again."""


async def serve(settings: Settings, load: Load) -> int:
    """Serve until SIGTERM, SIGINT or the end of the pipeline; returns the exit code. Raises OSError if it cannot listen."""
    finish = settings.finish_seconds
    worker, stop = Worker(), asyncio.Event()
    async with _signals(stop), _listening(settings, worker), _loading(worker, load):
        await _first(stop, worker)
        if worker.state is State.BROKEN:
            log.error("ends, since its pipeline is broken: %s", worker.detail)
            await _within(LINGER_SECONDS, stop)
            return 1
        worker.stop()
        if worker.requests:
            log.info("stops when %d requests are finished, after %g s at the latest", worker.requests, finish)
            await _requests_end(worker, finish)
        worker.interrupt()
        await _requests_end(worker, INTERRUPT_SECONDS)
    return 0


@contextlib.asynccontextmanager
async def _signals(stop: asyncio.Event) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()
    for number in _ENDS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in _ENDS:
            loop.remove_signal_handler(number)


@contextlib.asynccontextmanager
async def _listening(settings: Settings, worker: Worker) -> AsyncIterator[None]:
    """Listen; a client that leaves ends its request."""
    api = Api(worker, settings.model, settings.defaults)
    runner = web.AppRunner(api.app(), handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        log.info("listens on %s:%d", settings.host, settings.port)
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def _loading(worker: Worker, load: Load) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.load(load))
    try:
        yield
    finally:
        task.cancel()


async def _first(stop: asyncio.Event, worker: Worker) -> None:
    """Return when the server must end: a signal, or a pipeline that is broken."""
    stopping = asyncio.ensure_future(stop.wait())
    while worker.state is not State.BROKEN and not stop.is_set():
        worker.changed.clear()
        change = asyncio.ensure_future(worker.changed.wait())
        await asyncio.wait((stopping, change), return_when=asyncio.FIRST_COMPLETED)
        change.cancel()
    stopping.cancel()


async def _requests_end(worker: Worker, seconds: float) -> None:
    worker.changed.clear()
    if worker.requests:
        await _within(seconds, worker.changed)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
