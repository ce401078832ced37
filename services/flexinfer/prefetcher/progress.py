"""The progress reader: asks the Pod of each download how far it is, and publishes the answer.

It runs beside the controller and decides nothing. Once a second it asks and publishes; the controller gets a fact
at most every ten seconds, since each is a write of the status. What answers there is our own program, but at an address that others may take:
the answer is bounded, and a bad one counts for nothing.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeAlias

from flexinfer.runtime import without_authorities as _first  # noqa: F401 -- before all that imports aiohttp

# isort: split
import aiohttp
import msgspec

from flexinfer.api.address import host_port
from flexinfer.api.conditions import one_line
from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.workload import JobFacts
from flexinfer.prefetcher.memory import Fact, Memory, ProgressSeen
from flexinfer.prefetcher.plan import FETCH
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.touched_keys import TouchedKeys
from flexinfer.sources.pod import PROGRESS_PORT
from flexinfer.state.observed import ObservedState

EVERY_SECONDS, WRITE_SECONDS = 1.0, 10.0
_ANSWER_SECONDS, _LONGEST_ANSWER, _LONGEST_NAME = 1.0, 4096, 256
_Size = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Ask: TypeAlias = Callable[[str], Awaitable[bytes]]
"""Return what a URL answers; empty if it does not. Never raises, and ends soon."""
Remember: TypeAlias = Callable[[Fact], None]


class Answer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the program of a download says."""

    bytes: _Size
    total_bytes: _Size
    bytes_per_second: _Size = 0
    file: str = ""


async def ask_http(url: str) -> bytes:
    """Ask over HTTP; never through a proxy."""
    try:
        timeout = aiohttp.ClientTimeout(total=_ANSWER_SECONDS)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            return await response.content.read(_LONGEST_ANSWER)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b""


class _Download(msgspec.Struct):
    """One Job that is asked, and when the controller got a fact of it last."""

    model: Model
    job: JobFacts
    reported: float = float("-inf")


class ProgressReader(TouchedKeys):
    """Asks every download that runs."""

    def __init__(self, ask: Ask = ask_http) -> None:
        super().__init__()
        self._ask = ask
        self._state = ObservedState()
        self._downloads: dict[str, _Download] = {}
        self._changed = asyncio.Event()

    def observe(self, state: ObservedState, _memory: Memory) -> None:
        """Take the newest state."""
        self._state = state
        if self._touched:
            self._changed.set()

    async def watch(self, runtime: Runtime, remember: Remember) -> None:
        """Ask until cancelled: the companion of the prefetcher's controller."""
        while True:
            if not self._downloads:
                await self._changed.wait()
            self._changed.clear()
            self._select()
            if runtime.is_leader():
                async with asyncio.TaskGroup() as tasks:
                    for download in self._downloads.values():
                        tasks.create_task(self._read(runtime, download, remember))
            if self._downloads:
                await runtime.sleep(EVERY_SECONDS)

    def _select(self) -> None:
        for key in self._touched:
            model = self._state.models.get(key)
            job = _running(model, self._state) if model is not None else None
            previous = self._downloads.pop(key, None)
            if model is not None and job is not None:
                same = previous is not None and previous.job.uid == job.uid
                reported_at = previous.reported if same and previous is not None else float("-inf")
                self._downloads[key] = _Download(model, job, reported_at)
        self._touched.clear()

    async def _read(self, runtime: Runtime, download: _Download, remember: Remember) -> None:
        try:
            body = await self._ask(f"http://{host_port(download.job.address, PROGRESS_PORT)}/")
            answer = read_json(body, Answer)
        except ForeignJsonError:
            return  # the program has not started to listen, or has ended
        if not answer.total_bytes:
            return  # it lists the files
        await self._publish(runtime, download, answer)
        now = runtime.clock()
        if now >= download.reported + WRITE_SECONDS:
            download.reported = now
            remember(_seen(download, answer))

    async def _publish(self, runtime: Runtime, download: _Download, answer: Answer) -> None:
        meta = download.model.metadata
        await runtime.bus.publish(
            events.DownloadObserved(
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
                job=download.job.name,
                bytes=answer.bytes,
                total_bytes=answer.total_bytes,
                bytes_per_second=answer.bytes_per_second,
                file=one_line(answer.file)[:_LONGEST_NAME],
            )
        )


def _seen(download: _Download, answer: Answer) -> ProgressSeen:
    return ProgressSeen(
        key=download.model.key,
        uid=download.model.uid,
        job=download.job.name,
        bytes=min(answer.bytes, answer.total_bytes),
        total_bytes=answer.total_bytes,
        bytes_per_second=answer.bytes_per_second,
    )


def _running(model: Model, state: ObservedState) -> JobFacts | None:
    """Return the Job that downloads a Model's weights and has an address; None if there is none."""
    prefix = f"{model.metadata.name}-{FETCH}-"
    jobs = (job for job in state.workload(model).jobs if job.name.startswith(prefix) and job.address)
    return next((job for job in jobs if not job.complete and not job.failed_reason), None)
