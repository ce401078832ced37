"""Watches: the changes of a resource after a version, as a stream of JSON lines.

Like apiserver/pkg/endpoints/handlers/watch.go. The stream ends at its timeout, when the client disconnects or
when the server stops. Reading the initial state and subscribing are one synchronous step, so no change is
missed in between. A client that does not keep up is disconnected rather than buffered without limit; it lists
again, as after any end of a watch.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from localkube.apiserver.errors import ApiError
from localkube.apiserver.query_options import WatchOptions
from localkube.apiserver.requests import Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.tables import META, Form, ResponseTransformer, partial
from localkube.apiserver.watch_cache import parse_revision

INITIAL_EVENTS_END = "k8s.io/initial-events-end"
BOOKMARK_SECONDS = 30.0
_MAX_QUEUE = 10_000
_ENCODER = msgspec.json.Encoder()


class Watch:
    """The watch of one client: `open` reads and subscribes, `lines` is then iterated to send the response."""

    def __init__(
        self,
        store: Store,
        transformer: ResponseTransformer,
        res: Resource,
        form: Form,
        *,
        max_queue: int = _MAX_QUEUE,
    ) -> None:
        self._store = store
        self._shaper = transformer
        self._res = res
        self._form = form
        self._max_queue = max_queue
        self._queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        self._backlog: list[Object] = []
        self._last_lines: list[bytes] = []
        self._headers = True
        self._opened_at = ""
        self._close: Callable[[], None] = lambda: None

    def open(self, namespace: str | None, query: Query, options: WatchOptions) -> None:
        """Read the initial state and subscribe, in one step.

        A resourceVersion that is too old becomes an ERROR event of the stream, as in a real API server; other
        errors are raised: ApiError 400, 422 for invalid options, 504 for a version in the future.
        """
        options.check()
        selectors = Query(label_selector=query.label_selector, field_selector=query.field_selector)
        since = self._check_version(options.since)
        self._opened_at = str(self._store.revision)
        if options.from_now:
            listing = self._store.list(self._res, namespace, selectors)
            self._backlog = list(listing.items)
            since = listing.resource_version
        elif options.initial is False and since in ("", "0"):
            since = str(self._store.revision)
        try:
            self._close = self._store.subscribe(self._res, namespace, selectors, self._enqueue, since=since)
        except ApiError as error:
            if error.code != 410:  # noqa: PLR2004
                raise
            self._last_lines = [_line("ERROR", error.status())]

    def close(self) -> None:
        """Unsubscribe."""
        self._close()

    def end(self) -> None:
        """End the stream after the events that are queued; used when the server stops."""
        self._queue.put_nowait(None)

    async def lines(self, options: WatchOptions, period: float = BOOKMARK_SECONDS) -> AsyncIterator[bytes]:
        """Yield chunks of whole lines until the timeout, `end` or an error.

        Bookmarks every `period` seconds if requested.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + options.seconds
        if first := self._initial_events(options):
            yield first
        if self._last_lines:
            return
        while (remaining := deadline - loop.time()) > 0:
            try:
                async with asyncio.timeout(min(remaining, period)):
                    event = await self._queue.get()
            except TimeoutError:
                if options.bookmarks and self._queue.empty():
                    yield self._bookmark(str(self._store.revision))
                continue
            chunk, at_end = self._drain(event)
            if chunk:
                yield chunk
            if at_end:
                return

    def _check_version(self, since: str) -> str:
        if since and parse_revision(since) > self._store.revision:
            raise too_large(since, self._store.revision)
        return since

    def _enqueue(self, event: WatchEvent) -> None:
        if self._queue.qsize() < self._max_queue:
            self._queue.put_nowait(event)
            return
        self._close()
        self._queue.put_nowait(None)

    def _initial_events(self, options: WatchOptions) -> bytes:
        lines = [self._event("ADDED", obj) for obj in self._backlog]
        if options.initial and options.bookmarks and not self._last_lines:
            lines.append(self._bookmark(self._opened_at, initial=True))
        self._backlog = []
        return b"".join(lines + self._last_lines)

    def _drain(self, event: WatchEvent | None) -> tuple[bytes, bool]:
        """Return the event and all queued ones as one chunk, and whether the stream ends with them."""
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
        """Return a bookmark: all changes up to that version have been sent."""
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


def too_large(requested_version: str, current: int) -> ApiError:
    """Return the error for a version in the future; clients retry after a second."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return ApiError(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {requested_version}, current: {current}",
        details,
    )


def _line(kind: str, obj: Object) -> bytes:
    return _ENCODER.encode({"type": kind, "object": obj}) + b"\n"
