"""The Kubernetes client of a simulated process: every call can be delayed, refused, lost or interrupted.

A call passes two points at which its process may be killed or paused: before the request leaves and before
its answer is seen. Between them the API server may refuse it, or do it and lose the answer; a request whose
caller gave up may still arrive. A replica that is not the leader sends no write.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.runtime.kubernetes.api import (
    LEASES,
    ApiError,
    Change,
    Cluster,
    ExpiredError,
    Kind,
    Listing,
    UnavailableError,
)
from tests.simulation.laws.base import Call

if TYPE_CHECKING:
    from tests.simulation.member import Member

T = TypeVar("T")
_GATHERED_SECONDS = 1.0
TIMEOUT_SECONDS = 10.0
"""How long a client waits for an answer."""


class ApiFaults(msgspec.Struct):
    """The probability of each fault of a call, and of one watch event; times in seconds."""

    refused: float = 0.0
    unanswered: float = 0.0
    late: float = 0.0
    slow: float = 0.0
    watch_ends: float = 0.0
    watch_expires: float = 0.0
    watch_silent: float = 0.0
    watch_loses: float = 0.0
    watch_lags: float = 0.0
    watch_coalesces: float = 0.0
    away_until: float = 0.0
    broken_kinds: frozenset[str] = frozenset()
    """Kinds that the API server refuses to create, as quota or Pod security does."""

    @property
    def calm(self) -> bool:
        """Whether no call has a fault."""
        return not (self.refused or self.unanswered or self.late or self.slow)


def refusal(chance: random.Random) -> ApiError:
    """Return an error as an overloaded API server answers."""
    code = chance.choice((429, 500, 503, 0))
    retry_after = 1.0 if code == 429 else None
    return UnavailableError(f"HTTP {code}" if code else "no answer", code, retry_after=retry_after)


def _is_election(kind: Kind[Any], namespace: str) -> bool:
    """Return whether a call is about the Lease of a leader."""
    return kind is LEASES and namespace == SYSTEM_NAMESPACE


async def coalesced(
    changes: AsyncIterator[Change[T]], faults: ApiFaults, chance: random.Random
) -> AsyncIterator[Change[T]]:
    """Yield changes; at times those of a while are gathered, and several of one object are one, the last."""
    following: asyncio.Task[Change[T]] | None = None
    try:
        while True:
            gathered = [await (following or _next(changes))]
            following = _next(changes)
            if chance.random() < faults.watch_coalesces:
                await asyncio.sleep(chance.random() * _GATHERED_SECONDS)
            while following.done() and following.exception() is None:
                gathered.append(following.result())
                following = _next(changes)
                await asyncio.sleep(0)
            for change in _last_of_each(gathered):
                yield change
    except StopAsyncIteration:
        return
    finally:
        if following is not None:
            following.cancel()


def _next(changes: AsyncIterator[Change[T]]) -> "asyncio.Task[Change[T]]":
    return asyncio.ensure_future(_awaited(anext(changes)))


async def _awaited(change: Awaitable[Change[T]]) -> Change[T]:
    return await change


def _last_of_each(changes: Sequence[Change[T]]) -> list[Change[T]]:
    """Return the last change of each object, in the place of the last; one that came since is still ADDED."""
    kept: dict[str, Change[T]] = {}
    for change in changes:
        uid = _uid(change)
        former = kept.pop(uid, None)
        came = former is not None and former.type == "ADDED" and change.type == "MODIFIED"
        kept[uid] = msgspec.structs.replace(change, type="ADDED") if came else change
    return list(kept.values())


def _uid(change: Change[Any]) -> str:
    """Return whose change it is; a bookmark is its own."""
    return change.object.metadata.uid if change.object is not None else f"bookmark {change.version}"


class FaultyCluster:
    """`runtime.kubernetes.api.Cluster` of one member; `fenced`: it writes only while it is the leader."""

    def __init__(self, inner: Cluster, member: "Member", *, fenced: bool) -> None:
        self._inner, self._member, self._fenced = inner, member, fenced
        self._simulation = member.simulation

    def _of(self, kind: Kind[Any], namespace: str) -> Cluster:
        return self._simulation.leases if _is_election(kind, namespace) else self._inner

    async def _call(
        self, send: Callable[[], Awaitable[T]], what: Call | None = None, *, quickly: bool = False
    ) -> T:
        """Send a request through everything that may happen to it; `what` is the write that it is."""
        member, simulation = self._member, self._simulation
        if what is not None and self._fenced:
            if not member.may_write():
                raise UnavailableError(f"{what.verb} of a {what.kind.name}: not sent: not the leader")
            simulation.checker.sends(what)
        await member.step(quickly=quickly)
        faults, chance = simulation.api, simulation.chance
        if simulation.clock() < faults.away_until:
            raise refusal(chance)
        if not faults.calm:
            await self._disturb(send, what)
        answer = await send()
        if what is not None:
            simulation.checker.called(what, answer)
        if faults.unanswered and chance.random() < faults.unanswered:
            await asyncio.sleep(chance.random() * TIMEOUT_SECONDS)
            raise UnavailableError("no answer")
        await member.answered()
        return answer

    async def _disturb(self, send: Callable[[], Awaitable[T]], what: Call | None) -> None:
        faults, chance = self._simulation.api, self._simulation.chance
        drawn = chance.random()
        if drawn < faults.refused:
            raise refusal(chance)
        if drawn < faults.refused + faults.late and what is not None:
            self._simulation.spawn_background(self._arrive_late(send, what))
            await asyncio.sleep(TIMEOUT_SECONDS)
            raise UnavailableError("no answer")
        if drawn < faults.refused + faults.late + faults.slow:
            await asyncio.sleep(chance.random() * 3)

    async def _arrive_late(self, send: Callable[[], Awaitable[T]], what: Call) -> None:
        """Carry out a request whose caller has given up, or will."""
        await asyncio.sleep(self._simulation.chance.random() * 1.5 * TIMEOUT_SECONDS)
        try:
            answer = await send()
        except ApiError:
            return
        self._simulation.checker.called(what, answer)

    async def _write(
        self, verb: str, kind: Kind[Any], where: tuple[str, str], body: Any, send: Callable[[], Awaitable[T]]
    ) -> T:
        what = Call(self._member.name, self._member.identity, verb, kind, *where, body)
        self._simulation.checker.begins(what)
        try:
            return await self._call(send, what, quickly=_is_election(kind, where[0]))
        finally:
            self._simulation.checker.ends(what)

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """GET."""
        quickly = _is_election(kind, namespace)
        return await self._call(lambda: self._of(kind, namespace).get(kind, namespace, name), quickly=quickly)

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """LIST."""
        return await self._call(lambda: self._inner.list(kind, namespace, labels=labels, fields=fields))

    async def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """WATCH: each event may be late, or the last before the watch ends, expires or falls silent."""
        faults, chance = self._simulation.api, self._simulation.chance
        if self._simulation.clock() < faults.away_until:
            raise refusal(chance)
        changes = self._inner.watch(kind, version)
        if faults.watch_coalesces:
            changes = coalesced(changes, faults, self._simulation.apart)
        async for change in changes:
            await self._member.resumed()
            drawn = chance.random()
            if drawn < faults.watch_ends or self._simulation.clock() < faults.away_until:
                return
            drawn -= faults.watch_ends
            if drawn < faults.watch_expires:
                raise ExpiredError("too old resource version", 410)
            drawn -= faults.watch_expires
            if drawn < faults.watch_silent:
                await asyncio.Event().wait()
            drawn -= faults.watch_silent
            if drawn < faults.watch_loses:
                continue
            if drawn < faults.watch_loses + faults.watch_lags:
                await asyncio.sleep(chance.random() * 2)
            yield change

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """POST."""
        if kind.name == "Event":
            return body  # type: ignore[no-any-return] # Events are not simulated
        return await self._write(
            "create",
            kind,
            (namespace, ""),
            body,
            lambda: self._created(kind, namespace, body),
        )

    async def _created(self, kind: Kind[T], namespace: str, body: Any) -> T:
        self._simulation.refuse_if_forbidden(kind, namespace, body)
        return await self._of(kind, namespace).create(kind, namespace, body)

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """PUT."""
        return await self._write(
            "replace",
            kind,
            (namespace, name),
            body,
            lambda: self._of(kind, namespace).replace(kind, namespace, name, body, subresource=subresource),
        )

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Apply."""
        return await self._write(
            "apply",
            kind,
            (namespace, body["metadata"]["name"]),
            body,
            lambda: self._inner.apply(kind, namespace, body, manager=manager, subresource=subresource),
        )

    async def patch(
        self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any], *, subresource: str = ""
    ) -> T:
        """Patch."""
        return await self._write(
            "patch",
            kind,
            (namespace, name),
            operations,
            lambda: self._inner.patch(kind, namespace, name, operations, subresource=subresource),
        )

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Merge."""
        return await self._write(
            "merge",
            kind,
            (namespace, name),
            body,
            lambda: self._inner.merge(kind, namespace, name, body),
        )

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """DELETE."""
        await self._write(
            "delete",
            kind,
            (namespace, name),
            {"uid": uid},
            lambda: self._inner.delete(kind, namespace, name, uid=uid, version=version, grace=grace),
        )
