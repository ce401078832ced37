"""Watching: the changes of a resource as a stream of lines, from a version on, until the client, its deadline or the server ends it.

Listening begins in the same instant in which the initial state is read, so nothing falls between. A client too slow to follow is cut
off rather than kept in memory; it lists again, as after any end.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from localkube.apiserver.errors import ApiError, bad_request
from localkube.apiserver.query_options import WatchOptions
from localkube.apiserver.requests import Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.tables import META, Form, Shaper, partial

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BOOKMARK_SECONDS = 30.0
_LONGEST_QUEUE = 10_000
_ENCODER = msgspec.json.Encoder()


class Watch:
    """One client's watch: opened where the store is read, then iterated where lines are sent."""

    def __init__(
        self, store: Store, shaper: Shaper, res: Resource, form: Form, *, longest: int = _LONGEST_QUEUE
    ) -> None:
        self._store = store
        self._shaper = shaper
        self._res = res
        self._form = form
        self._longest = longest
        self._queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        self._backlog: list[Object] = []
        self._last_lines: list[bytes] = []
        self._headers = True
        self._opened_at = ""
        self._close: Callable[[], None] = lambda: None

    def open(self, namespace: str | None, query: Query, options: WatchOptions) -> None:
        """Read the state and begin to listen, in one step; what went wrong is said in the stream, as a real server does."""
        options.check()
        selectors = Query(label_selector=query.label_selector, field_selector=query.field_selector)
        since = self._check_version(options.since)
        self._opened_at = str(self._store.revision)
        if options.from_now:
            found = self._store.list(self._res, namespace, selectors)
            self._backlog = list(found.items)
            since = found.resource_version
        elif options.initial is False and since in ("", "0"):
            since = str(self._store.revision)
        try:
            self._close = self._store.subscribe(self._res, namespace, selectors, self._take, since=since)
        except ApiError as error:
            if error.code != 410:  # noqa: PLR2004
                raise
            self._last_lines = [_line("ERROR", error.status())]

    def close(self) -> None:
        """Stop listening."""
        self._close()

    def end(self) -> None:
        """End the stream after what is in it: the server goes."""
        self._queue.put_nowait(None)

    async def lines(self, options: WatchOptions, period: float = BOOKMARK_SECONDS) -> AsyncIterator[bytes]:
        """Yield chunks of whole lines until the deadline, `end`, or an error that ends a watch."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.seconds
        if first := self._first(options):
            yield first
        if self._last_lines:
            return
        while (left := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(left, period)):
                    event = await self._queue.get()
            except TimeoutError:
                if options.bookmarks and self._queue.empty():
                    yield self._bookmark(str(self._store.revision))
                continue
            chunk, ended = self._drain(event)
            if chunk:
                yield chunk
            if ended:
                return

    def _check_version(self, since: str) -> str:
        if since and not since.isdigit():
            raise bad_request(
                f'Invalid value: "{since}": strconv.ParseUint: parsing "{since}": invalid syntax'
            )
        if since and int(since) > self._store.revision:
            raise too_large(since, self._store.revision)
        return since

    def _take(self, event: WatchEvent) -> None:
        if self._queue.qsize() < self._longest:
            self._queue.put_nowait(event)
            return
        self._close()
        self._queue.put_nowait(None)

    def _first(self, options: WatchOptions) -> bytes:
        lines = [self._event("ADDED", obj) for obj in self._backlog]
        if options.initial and options.bookmarks and not self._last_lines:
            lines.append(self._bookmark(self._opened_at, initial=True))
        self._backlog = []
        return b"".join(lines + self._last_lines)

    def _drain(self, event: WatchEvent | None) -> tuple[bytes, bool]:
        """Return all that waits, as one chunk, and whether the end is among it."""
        lines = []
        while event is not None:
            lines.append(self._event(event.type, event.obj))
            if self._queue.empty():
                return b"".join(lines), False
            event = self._queue.get_nowait()
        return b"".join(lines), True

    def _event(self, kind: str, obj: Object) -> bytes:
        if self._form.is_table:
            return _line(kind, self._row(obj))
        return _line(kind, partial(obj) if self._form.name else obj)

    def _row(self, obj: Object) -> Object:
        metadata = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        table = self._shaper.table(self._res, [obj], self._form, metadata, headers=self._headers)
        self._headers = False
        return table

    def _bookmark(self, version: str, *, initial: bool = False) -> bytes:
        """Return a bookmark: the stream has said all up to that version."""
        metadata: Object = {"resourceVersion": version, "creationTimestamp": None}
        if initial:
            metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
        obj: Object = {"kind": self._res.kind, "apiVersion": self._res.api_version, "metadata": metadata}
        if not self._form.is_table:
            return _line("BOOKMARK", partial(obj) if self._form.name else obj)
        return _line("BOOKMARK", self._bookmark_table(obj))

    def _bookmark_table(self, obj: Object) -> Object:
        return {
            "kind": "Table",
            "apiVersion": META,
            "metadata": {"resourceVersion": obj["metadata"]["resourceVersion"]},
            "columnDefinitions": None,
            "rows": [{"cells": [], "object": partial(obj)}],
        }


def too_large(asked: str, current: int) -> ApiError:
    """Say that a version is of the future; clients wait a second and ask again."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return ApiError(
        504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}", details
    )


def _line(kind: str, obj: Object) -> bytes:
    return _ENCODER.encode({"type": kind, "object": obj}) + b"\n"
