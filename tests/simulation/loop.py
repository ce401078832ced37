"""Virtual time: an event loop whose clock jumps to the next timer when no task is ready.

Hours pass in milliseconds, and the same seed gives the same history: no socket, thread or real clock is
involved.
"""

import asyncio
import contextlib
import gc
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar, TypeVarTuple

from flexinfer.runtime.nats import consumer, state_reader, state_writer

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_FEW_TIMERS = 100
"""Of more, those that are cancelled are dropped once they are most."""


class DeadlockError(Exception):
    """No task is ready and no timer is set: all tasks wait without end."""


class _Call(list[Any]):
    """A call of a VirtualLoop, in place of an asyncio.Handle: a function and its arguments, or nothing once it is cancelled.

    A list is made without a call of Python. It has no context: nothing in a simulation has context variables.
    """

    __slots__ = ()

    def cancel(self) -> None:
        """Call the function no more."""
        self.clear()

    def cancelled(self) -> bool:
        """Return whether it was cancelled."""
        return not self


class _Timer(_Call):
    """A call at a time, in place of an asyncio.TimerHandle."""

    __slots__ = ("loop", "time", "waits")

    loop: "VirtualLoop"
    time: float
    waits: bool
    """Whether it is among those that the loop waits for."""

    def when(self) -> float:
        """Return the virtual time."""
        return self.time

    def cancel(self) -> None:
        """Call the function no more."""
        if self:
            self.clear()
            self.loop.forget(self)


class _Task(asyncio.Task[Any]):
    """A task whose place in a set does not depend on its address: a TaskGroup cancels its set of tasks one by one."""

    def __init__(self, number: int, coroutine: Any, loop: asyncio.AbstractEventLoop, **context: Any) -> None:
        self._number = number
        super().__init__(coroutine, loop=loop, **context)

    def __hash__(self) -> int:
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop in virtual time, which starts at 0 seconds.

    Of asyncio's own loop it lacks the descriptors, and it compares timers as tuples, without a call: a history has
    20,000 callbacks, and they are a good part of its time. Timers of the same moment run in the order in which they were
    set, so that a timer less or more elsewhere alters nothing else of a history.
    """

    _ready: deque[_Call]
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._cancelled_timers = 0
        """How many of `_timers` are cancelled."""
        tasks = itertools.count()
        self.set_task_factory(
            lambda loop, coroutine, **context: _Task(next(tasks), coroutine, loop, **context)
        )

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now

    def call_soon(self, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None) -> Any:
        """Call a function in the next pass."""
        call = _Call((callback, args))
        self._ready.append(call)
        return call

    call_soon_threadsafe = call_soon
    """No other thread calls the loop, but asyncio closes forgotten generators as if one did."""

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None
    ) -> Any:
        """Call a function after some virtual seconds."""
        timer, when = _Timer((callback, args)), self._now + delay
        timer.loop, timer.time, timer.waits = self, when, True
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_at(self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: Any = None) -> Any:
        """Call a function at a virtual time."""
        timer = _Timer((callback, args))
        timer.loop, timer.time, timer.waits = self, when, True
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def forget(self, timer: _Timer) -> None:
        """Count a cancelled timer; each calls this."""
        self._cancelled_timers += timer.waits

    def _run_once(self) -> None:
        """Make passes until the loop is stopped; asyncio's `run_forever` calls this."""
        calls, timers = self._ready, self._timers
        while True:
            if not calls or (timers and timers[0][0] <= self._now):
                self._take_due()
            for _ in range(len(calls)):
                call = calls.popleft()
                if not call:
                    continue
                callback, args = call
                try:
                    callback(*args)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:  # noqa: BLE001 -- as asyncio.Handle does
                    self._failed(callback, error)
            if self._stopping:
                return

    def _failed(self, callback: Any, error: BaseException) -> None:
        """Pass the error of a call on, as asyncio.Handle does."""
        self.call_exception_handler({"message": f"Exception in callback {callback!r}", "exception": error})

    def _take_due(self) -> None:
        """Take the timers that are due; if nothing else is left to run, after a jump to the next one.

        Raises DeadlockError if there is none.
        """
        timers, calls = self._timers, self._ready
        while timers and (timers[0][0] <= self._now or not (calls or self._stopping)):
            when, _, timer = heapq.heappop(timers)
            timer.waits = False
            if not timer:
                self._cancelled_timers -= 1
            else:
                self._now = max(self._now, when)
                calls.append(timer)
        if not calls and not self._stopping:
            raise DeadlockError
        if self._cancelled_timers > max(_FEW_TIMERS, len(timers) / 2):
            timers[:] = [entry for entry in timers if entry[2]]
            heapq.heapify(timers)
            self._cancelled_timers = 0


@contextlib.contextmanager
def _virtual_time(loop: VirtualLoop) -> Iterator[None]:
    """Let reader and writer of NATS count by the virtual clock: they take `runtime.clock` themselves."""
    modules: tuple[Any, ...] = (consumer, state_reader, state_writer)
    real = [module.monotonic for module in modules]
    for module in modules:
        module.monotonic = loop.time
    try:
        yield
    finally:
        for module, original in zip(modules, real, strict=True):
            module.monotonic = original


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in virtual time, from second 0; without the garbage collector, which would take a tenth of it."""
    collects = gc.isenabled()
    gc.disable()
    try:
        loop = VirtualLoop()
        with _virtual_time(loop):
            return _run(main, loop)
    finally:
        if collects:
            gc.enable()


def _run(main: Coroutine[Any, Any, T], loop: VirtualLoop) -> T:
    try:
        return loop.run_until_complete(main)
    finally:
        _cancel_all(loop)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
