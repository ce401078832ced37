"""Operations: follows what an engine continues after it has answered, as ComfyUI does with a prompt.

An operation that began through this proxy counts as a request in flight until it ends, so that its Model is neither idle nor stopped in the
middle of it; its steps and its end become lines of history. An engine is listened to only while it has such an operation, on one connection.
What it sends is the tenant's: bounded, and at worst an operation is not followed. A proxy that ends forgets its operations.
"""

import asyncio
import logging

import aiohttp
import msgspec
from yarl import URL

from flexinfer import backends
from flexinfer.backends.operations import End, Operations, Step
from flexinfer.events import events
from flexinfer.proxy.activity import ActivityReporter
from flexinfer.proxy.engine import url_of
from flexinfer.proxy.errors import ConnectError
from flexinfer.proxy.view import Route
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
LOOK_SECONDS = 5.0
"""How often the end of an operation is looked for while the engine sends nothing, and how often a step is recorded, at most."""
STALLED_SECONDS = 3600.0
"""Operations of an engine that has sent nothing for so long count no longer: its Model may be idle."""
MOST_FOLLOWED = 64
"""So many operations of one engine are followed; those beyond are its own affair."""
_LONGEST_ANSWER = 1 << 16
"""Bytes of an answer to the request that begins one, of which its id is read."""
_LONGEST_MESSAGE, _LONGEST_RESULT = 1 << 20, 8 << 20
"""Bytes of a message on the WebSocket, and of a result: ComfyUI repeats the whole prompt there."""
_ASK_SECONDS, _CLOSE_SECONDS = 5.0, 1.0
_PLAIN = {"Accept-Encoding": "identity"}
_OK = 200
_SHOWN = 36
"""Characters of an id that are shown: all of a UUID."""
_ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)


class Beginning:
    """Keeps the beginning of an answer."""

    def __init__(self) -> None:
        self.kept = bytearray()

    def keep(self, chunk: bytes) -> None:
        """Keep a piece of the answer if it may be a part of one that names an operation."""
        if len(self.kept) <= _LONGEST_ANSWER:
            self.kept += chunk


class Outcome(msgspec.Struct, frozen=True):
    """How an operation ended: a word, and what explains it."""

    reason: str
    message: str = ""


RUNS = Outcome("")
REMOVED = Outcome(
    "Removed",
    "it is neither in the queue of its engine nor among its results: it was removed, or its engine restarted; send it again",
)
LOST = Outcome("Lost", "its engine was stopped before it ended; send it again")
STALLED = Outcome(
    "Stalled", f"its engine has sent nothing for {STALLED_SECONDS:g}s; it keeps its Model running no longer"
)


class _Operation(msgspec.Struct):
    """One operation; times by the monotonic clock."""

    name: str
    began: float
    step: Step | None = None
    recorded: float = float("-inf")
    """When a step was last recorded."""


class _Followed(msgspec.Struct):
    """The operations of one engine that are followed."""

    route: Route
    address: str
    kind: Operations
    last_message: float
    """When the engine last sent something, by the monotonic clock."""
    operations: dict[str, _Operation] = {}


def begun_by(route: Route, method: str, path: str) -> Operations | None:
    """Return how the operation is followed that a request may begin; None: it begins none."""
    backend = backends.find(route.model.spec.backend)
    kind = backend.operations if backend is not None else None
    return kind if kind is not None and method == "POST" and path == kind.begun_by else None


class OperationWatcher:
    """Follows the operations that began through this proxy."""

    def __init__(self, runtime: Runtime, activity: ActivityReporter, session: aiohttp.ClientSession) -> None:
        self._runtime, self._activity, self._session = runtime, activity, session
        self._engines: dict[tuple[str, str], _Followed] = {}  # uid and address -> its operations

    def follow(self, route: Route, address: str, kind: Operations, answer: bytes) -> None:
        """Follow the operation that an engine's answer names, if it names one."""
        name, key, now = kind.id_of(answer), (route.model.uid, address), self._runtime.clock()
        if not name:
            return
        engine = self._engines.get(key)
        if engine is None:
            engine = self._engines[key] = _Followed(route, address, kind, now)
            self._runtime.spawn_background(self._follow(key, engine))
        if name in engine.operations or len(engine.operations) >= MOST_FOLLOWED:
            return
        engine.operations[name] = _Operation(name, now)
        route.operations += 1
        self._activity.record(route)

    async def _follow(self, key: tuple[str, str], engine: _Followed) -> None:
        """Follow an engine's operations until the last one has ended, or it has."""
        try:
            while engine.operations and not engine.route.deleted:
                await self._listen(engine)
                if not await self._look(engine) and engine.route.address != engine.address:
                    break
            for operation in list(engine.operations.values()):
                await self._end(engine, operation, LOST)
        finally:
            del self._engines[key]
            engine.route.operations -= len(engine.operations)
            self._activity.record(engine.route)

    async def _listen(self, engine: _Followed) -> None:
        """Listen to an engine's events until nothing is followed or the connection has ended; without one, only wait."""
        try:
            socket = await self._connect(engine)
            try:
                while engine.operations and not engine.route.deleted:
                    await self._hear(engine, socket)
            finally:
                await socket.close()
        except (aiohttp.ClientError, OSError, ValueError) as error:
            log.info(
                "%s: the events of its engine are not received: %s",
                engine.route.model.key,
                type(error).__name__,
            )
            await self._runtime.sleep(LOOK_SECONDS)

    async def _connect(self, engine: _Followed) -> aiohttp.ClientWebSocketResponse:
        url = URL(f"ws://{engine.address}{engine.kind.events}", encoded=True)
        closing = aiohttp.ClientWSTimeout(ws_close=_CLOSE_SECONDS)
        async with asyncio.timeout(_ASK_SECONDS):
            return await self._session.ws_connect(
                url, max_msg_size=_LONGEST_MESSAGE, timeout=closing, headers=_PLAIN
            )

    async def _hear(self, engine: _Followed, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Take one message, or look after a while without any. Raises ClientConnectionError at the end of the connection."""
        try:
            message = await socket.receive(LOOK_SECONDS)
        except TimeoutError:
            await self._look(engine)
            return
        if message.type in _ENDS:
            raise aiohttp.ClientConnectionError
        if message.type is not aiohttp.WSMsgType.TEXT:
            return
        engine.last_message = self._runtime.clock()
        step = engine.kind.step_of(message.data)
        if step is not None:
            await self._advance(engine, step)
        elif engine.kind.may_have_ended(message.data):
            await self._look(engine)

    async def _advance(self, engine: _Followed, step: Step) -> None:
        operation, now = engine.operations.get(step.operation), self._runtime.clock()
        if operation is None or operation.step == step:
            return
        operation.step = step
        if now >= operation.recorded + LOOK_SECONDS:
            operation.recorded = now
            of = f" of node {step.part}" if step.part else ""
            await self._record(engine, f"{_shown(engine, operation)}: step {step.done} of {step.total}{of}")

    async def _look(self, engine: _Followed) -> bool:
        """Record the end of each operation that has ended; False if the engine does not answer.

        The queue is asked for once, after the results: one that is empty then holds none of those without a result, unless they ended in between.
        """
        following = list(engine.operations.values())
        try:
            if self._runtime.clock() >= engine.last_message + STALLED_SECONDS:
                for operation in following:
                    await self._end(engine, operation, STALLED)
                return True
            open_ones = [operation for operation in following if not await self._has_ended(engine, operation)]
            if open_ones and engine.kind.left_of(await self._ask(engine, engine.kind.left)) == 0:
                for operation in open_ones:
                    if not await self._has_ended(engine, operation):
                        await self._end(engine, operation, REMOVED)
        except (aiohttp.ClientError, OSError, TimeoutError, ConnectError):
            return False
        return True

    async def _has_ended(self, engine: _Followed, operation: _Operation) -> bool:
        """Record the end of an operation that has a result; False while it has none. Raises what aiohttp raises."""
        end = await self._end_of(engine, operation)
        if end is not None:
            await self._end(
                engine, operation, Outcome("Failed", end.failure) if end.failure else Outcome("Finished")
            )
        return end is not None

    async def _end_of(self, engine: _Followed, operation: _Operation) -> End | None:
        answer = await self._ask(engine, engine.kind.result(operation.name))
        return engine.kind.end_of(operation.name, answer)

    async def _ask(self, engine: _Followed, path: str) -> bytes:
        """Return the answer to a GET, up to a limit; nothing of one that is no success. Raises what aiohttp raises."""
        url, limit = url_of(path, "", engine.address), aiohttp.ClientTimeout(total=_ASK_SECONDS)
        async with self._session.get(url, allow_redirects=False, timeout=limit, headers=_PLAIN) as response:
            answer = bytearray()
            async for chunk in response.content.iter_any():
                answer += chunk
                if len(answer) > _LONGEST_RESULT:
                    response.close()
                    break
            return bytes(answer) if response.status == _OK else b""

    async def _end(self, engine: _Followed, operation: _Operation, outcome: Outcome) -> None:
        """Count an operation no longer, and record its end."""
        if engine.operations.pop(operation.name, None) is None:
            return
        engine.route.operations -= 1
        self._activity.record(engine.route)
        seconds = self._runtime.clock() - operation.began
        await self._record(engine, _shown(engine, operation), outcome, seconds)

    async def _record(
        self, engine: _Followed, step: str, outcome: Outcome = RUNS, seconds: float | None = None
    ) -> None:
        """Record a line of history."""
        model = engine.route.model
        await self._runtime.bus.publish(
            events.HistoryRecorded(
                namespace=model.metadata.namespace,
                name=model.metadata.name,
                uid=model.uid,
                service=self._runtime.name,
                step=step,
                reason=outcome.reason,
                message=outcome.message,
                seconds=seconds,
                at=self._runtime.utc_now().isoformat(timespec="milliseconds"),
                version=model.metadata.version,
            )
        )


def _shown(engine: _Followed, operation: _Operation) -> str:
    return f"{engine.kind.noun} {operation.name[:_SHOWN]}"
