"""The steps of a swap as NATS shows them: each when it was heard, so that the wait for every one of them can be printed."""

import asyncio
import contextlib
import itertools
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED
from flexinfer.events import codec, events
from flexinfer.events.events import AnyEvent

_SUBJECTS = ("group", "model", "workload", "gpu", "sample")
_CONNECT_SECONDS = 30.0
STEPS = (
    "asked to leave",
    "drain begun",
    "engine ended",
    "Pod gone",
    "stop reported",
    "stop noted",
    "sample hinted",
    "memory seen free",
    "freed",
    "granted",
    "turn shown",
    "Pod created",
    "gate open",
    "process started",
    "engine ready",
    "answered",
)
"""In their order; `engine ended`, `process started` and `engine ready` come from the engines themselves."""


class Steps:
    """What was heard, with the monotonic time of each."""

    def __init__(self) -> None:
        self._heard: list[tuple[float, AnyEvent]] = []

    def note(self, event: AnyEvent) -> None:
        """Note an event as heard now."""
        self._heard.append((time.monotonic(), event))

    def times(self, leaver: str, comer: str, since: float) -> Mapping[str, float]:
        """Return when each step was heard first after a time, for the Model that leaves and the one that comes; those not heard are left out."""
        times: dict[str, float] = {}
        for at, event in self._heard:
            if at >= since:
                for step, happens in _LOOKS.items():
                    if step not in times and happens(event, leaver, comer) and _is_next(step, times):
                        times[step] = at
        return times


def _is_next(step: str, times: Mapping[str, float]) -> bool:
    """Return whether what must come before a step was heard: a sample may be free before any step waits for it."""
    needed = {"memory seen free": "sample hinted", "freed": "stop noted", "turn shown": "granted"}.get(step)
    return needed is None or needed in times


def _group(*steps: tuple[bool, str]) -> Callable[[AnyEvent, str, str], bool]:
    """Return a look for a SharedGroup in which the leaver (True) or the comer is at a step, or, with an empty one, is not on the list."""

    def look(event: AnyEvent, leaver: str, comer: str) -> bool:
        if not isinstance(event, events.GroupObserved):
            return False
        at = {holder.model: holder.step for holder in event.group.status.holders}
        return all(at.get(leaver if leaves else comer, "") == step for leaves, step in steps)

    return look


def _model(kind: str, status: str, reason: str, *, leaves: bool) -> Callable[[AnyEvent, str, str], bool]:
    """Return a look for a condition of the leaver or the comer."""

    def look(event: AnyEvent, leaver: str, comer: str) -> bool:
        if not isinstance(event, events.ModelObserved):
            return False
        said = event.model.condition(kind)
        named = event.model.metadata.name == (leaver if leaves else comer)
        return named and said is not None and (said.status, said.reason) == (status, reason)

    return look


def _pod_gone(event: AnyEvent, leaver: str, _comer: str) -> bool:
    return isinstance(event, events.WorkloadObserved) and event.name == leaver and not event.pods


def _pod(*, gated: bool) -> Callable[[AnyEvent, str, str], bool]:
    def look(event: AnyEvent, _leaver: str, comer: str) -> bool:
        pods = event.pods if isinstance(event, events.WorkloadObserved) and event.name == comer else ()
        return any(pod.gated == gated and not pod.deleting for pod in pods)

    return look


def _free(event: AnyEvent, _leaver: str, _comer: str) -> bool:
    return isinstance(event, events.GpusObserved) and not any(d.processes for d in event.devices)


def _hinted(event: AnyEvent, _leaver: str, _comer: str) -> bool:
    return isinstance(event, events.SampleAwaited)


_LOOKS: Mapping[str, Callable[[AnyEvent, str, str], bool]] = {
    "asked to leave": _group((True, RELEASING)),
    "drain begun": _model(conditions.READY, conditions.FALSE, Reason.DRAINING, leaves=True),
    "Pod gone": _pod_gone,
    "stop reported": _model(conditions.READY, conditions.FALSE, Reason.STOPPED, leaves=True),
    "stop noted": _group((True, STOPPED)),
    "sample hinted": _hinted,
    "memory seen free": _free,
    "freed": _group((True, "")),
    "granted": _group((False, GRANTED)),
    "turn shown": _model(conditions.GRANTED, conditions.TRUE, Reason.GRANTED, leaves=False),
    "Pod created": _pod(gated=True),
    "gate open": _pod(gated=False),
}


Connected: TypeAlias = Callable[[], AbstractAsyncContextManager[Client]]


def at(url: str) -> Connected:
    """Return what connects to NATS at an address that says who connects."""

    @contextlib.asynccontextmanager
    async def connected() -> AsyncIterator[Client]:
        client = await nats.connect(url, allow_reconnect=False)
        yield client
        await client.close()

    return connected


@contextlib.contextmanager
def heard(connected: Connected) -> Iterator[Steps]:
    """Hear what NATS delivers to its readers during the block."""
    steps, ready, ended = Steps(), threading.Event(), threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_listen(connected, steps, ready, ended)), daemon=True
    )
    thread.start()
    if not ready.wait(_CONNECT_SECONDS):
        raise SystemExit("NATS does not answer")
    try:
        yield steps
    finally:
        ended.set()
        thread.join()


async def _listen(connected: Connected, steps: Steps, ready: threading.Event, ended: threading.Event) -> None:
    async def note(message: Msg) -> None:
        steps.note(codec.decode(message.data))

    async with connected() as client:
        for subject in _SUBJECTS:
            await client.subscribe(f"flexinfer.{subject}.>", cb=note)
        await client.flush()
        ready.set()
        await asyncio.to_thread(ended.wait)


def print_steps(swaps: Sequence[Mapping[str, float]]) -> None:
    """Print how long each step came after the one before it: the median of the swaps in which both were heard; each has the seconds since its request."""
    print("steps, each since the one before it (median; since the request):")
    for before, step in itertools.pairwise(("request", *STEPS)):
        both = [
            (swap[step] - swap.get(before, 0.0), swap[step])
            for swap in swaps
            if step in swap and (before in swap or before == "request")
        ]
        if both:
            took, since = (statistics.median(values) * 1000 for values in zip(*both, strict=True))
            print(f"  {step:17} {took:6.0f} ms  {since:6.0f} ms")
