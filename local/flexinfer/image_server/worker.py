"""Worker: loads the pipeline and draws with it in one thread, one image at a time; what waits is bounded, and a request whose client leaves ends."""

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from flexinfer.image_server import errors
from flexinfer.image_server.errors import RequestError
from flexinfer.image_server.generation import Generation
from flexinfer.image_server.pipeline import (
    BrokenError,
    InvalidError,
    Load,
    MemoryFullError,
    Pipeline,
    Step,
)

log = logging.getLogger(__name__)
MOST_WAITING = 16
"""Requests that may wait for the one image that is drawn; the next one is refused at once."""


class State(StrEnum):
    """What the server can do."""

    LOADING = "loading"
    READY = "ready"
    BROKEN = "broken"
    STOPPING = "stopping"


class _InterruptedError(Exception):
    """No client waits for the image that is drawn."""


class Worker:
    """The pipeline, its thread, and what is known of them. All methods are called from the event loop."""

    def __init__(self) -> None:
        self.state = State.LOADING
        self.detail = "starting"
        """The stage of loading, or the last error."""
        self.requests = 0
        """Requests that wait or are worked on."""
        self.step = self.steps = 0
        """How many denoising steps of the present image are done, of how many."""
        self.drawn = 0
        """Images since the start."""
        self.changed = asyncio.Event()
        """Set when nothing can be drawn any more, and when the last request has ended."""
        self._pipeline: Pipeline | None = None
        self._thread = ThreadPoolExecutor(1, "pipeline")
        self._ended = threading.Event()

    async def load(self, load: Load) -> None:
        """Load the pipeline; afterwards the server is ready or broken."""
        loop = asyncio.get_running_loop()

        def stage(text: str) -> None:
            loop.call_soon_threadsafe(self._loads, text)

        try:
            self._pipeline = await loop.run_in_executor(self._thread, load, stage)
        except Exception as error:
            log.exception("the pipeline was not loaded")
            self._break(error)
            return
        if self.state is State.LOADING:
            self.state, self.detail = State.READY, ""

    def admit(self) -> None:
        """Count a request that begins; `done` ends it. Raises RequestError: 503 if nothing can be drawn, 429 if too many wait."""
        if self.state is not State.READY:
            raise errors.not_ready(f"{self.state}: {self.detail}" if self.detail else str(self.state))
        if self.requests > MOST_WAITING:
            raise errors.busy(MOST_WAITING)
        self.requests += 1

    def done(self) -> None:
        """Count a request that has ended."""
        self.requests -= 1
        if not self.requests:
            self.changed.set()

    async def draw(self, generation: Generation, progress: Callable[[int, int], None]) -> bytes:
        """Return an image; `progress` is called after each step. A caller that is cancelled ends the drawing with its next step.

        Raises RequestError.
        """
        pipeline, loop, stop = self._pipeline, asyncio.get_running_loop(), threading.Event()
        if pipeline is None:
            raise errors.not_ready(str(self.state))

        def advanced(step: int, steps: int) -> None:
            self.step, self.steps = step, steps
            progress(step, steps)

        def step(number: int, total: int) -> None:
            if stop.is_set() or self._ended.is_set():
                raise _InterruptedError
            loop.call_soon_threadsafe(advanced, number, total)

        try:
            return await self._drawn(pipeline, generation, step)
        finally:
            stop.set()
            self.step = self.steps = 0

    async def _drawn(self, pipeline: Pipeline, generation: Generation, step: Step) -> bytes:
        loop = asyncio.get_running_loop()
        if self._ended.is_set():
            raise errors.stopped()
        try:
            image = await loop.run_in_executor(self._thread, pipeline.draw, generation, step)
        except _InterruptedError:
            raise errors.stopped() from None
        except InvalidError as error:
            raise errors.invalid(str(error), error.param) from None
        except MemoryFullError as error:
            log.warning("%s", error)
            raise RequestError(503, str(error), "out_of_memory") from None
        except BrokenError as error:
            log.exception("the pipeline is broken")
            self._break(error)
            raise RequestError(500, self.detail, "broken") from None
        except Exception as error:
            log.exception("an image was not drawn")
            raise RequestError(500, _line(error), "failed") from None
        self.drawn += 1
        return image

    def stop(self) -> None:
        """Take no more requests; those that were taken continue."""
        if self.state is not State.BROKEN:
            self.state, self.detail = State.STOPPING, ""

    def interrupt(self) -> None:
        """End what is drawn with its next step."""
        self._ended.set()

    def _loads(self, text: str) -> None:
        if self.state is State.LOADING:
            self.detail = text
            log.info("loading: %s", text)

    def _break(self, error: Exception) -> None:
        self.state, self.detail = State.BROKEN, _line(error)
        self.changed.set()


def _line(error: Exception) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:1000]
