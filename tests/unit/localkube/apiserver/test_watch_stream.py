"""Watches of a store, line by line."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.errors import ApiError
from localkube.apiserver.query_options import WatchOptions
from localkube.apiserver.requests import Options, Patch, Query
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.tables import Form, ResponseTransformer
from localkube.apiserver.watch_cache import WINDOW
from localkube.apiserver.watch_stream import INITIAL_EVENTS_END, Watch
from tests.patience import patient

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
INITIAL = WatchOptions(bookmarks=True, initial=True, match="NotOlderThan")
ALL = Query()


class Setup:
    """A store with a namespace, and operations on ConfigMaps."""

    def __init__(self) -> None:
        self.registry = builtin_registry()
        self.store = Store(self.registry, now=lambda: NOW)
        self.transformer = ResponseTransformer(self.registry, lambda: NOW)
        self.maps = self.res("configmaps")
        self.store.create(self.res("namespaces"), None, {"metadata": {"name": "a"}}, Options())

    def res(self, plural: str) -> Resource:
        """Return a resource of the core group."""
        res = self.registry.find("", "v1", plural)
        assert res is not None
        return res

    def create(self, name: str, **labels: str) -> Object:
        """Create a ConfigMap."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
        return self.store.create(self.maps, "a", obj, Options()).obj

    def label(self, name: str, **labels: str) -> None:
        """Change the labels of a ConfigMap."""
        self.store.patch(self.maps, "a", name, Patch("merge", {"metadata": {"labels": labels}}))

    def watch(self, options: WatchOptions, query: Query = ALL, form: Form | None = None) -> "Lines":
        """Open a watch of ConfigMaps."""
        watch = Watch(self.store, self.transformer, self.maps, form or Form(), max_queue=10)
        watch.open("a", query, options)
        return Lines(watch, watch.lines(options, period=0.01))


@dataclass
class Lines:
    """An open watch, decoded."""

    watch: Watch
    chunks: AsyncIterator[bytes]

    async def next(self) -> list[Any]:
        """Return the events of the next chunk."""
        async with asyncio.timeout(patient(5)):
            return [msgspec.json.decode(line) for line in (await anext(self.chunks)).splitlines()]

    async def changes(self) -> list[tuple[str, str]]:
        """Return type and name of each event of the next chunk."""
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in await self.next()]


@pytest.fixture
def setup() -> Setup:
    """Return a new store."""
    return Setup()


async def test_without_a_version_the_current_state_is_sent_first(setup: Setup) -> None:
    """As ADDED events, before the changes."""
    setup.create("one")
    lines = setup.watch(WatchOptions())
    assert await lines.changes() == [("ADDED", "one")]
    setup.create("two")
    setup.label("one", a="b")
    setup.store.delete(setup.maps, "a", "two")
    assert await lines.changes() == [("ADDED", "two"), ("MODIFIED", "one"), ("DELETED", "two")]


async def test_every_change_after_a_version_is_sent_once(setup: Setup) -> None:
    """Also those between the list and the watch."""
    setup.create("one")
    version = setup.store.list(setup.maps, "a").resource_version
    setup.create("two")
    lines = setup.watch(WatchOptions(since=version))
    setup.create("three")
    assert await lines.changes() == [("ADDED", "two"), ("ADDED", "three")]


async def test_initial_events_end_in_a_bookmark_of_their_version(setup: Setup) -> None:
    """`kubectl wait` needs the annotation; a later version would lose changes."""
    setup.create("one")
    opened_at = str(setup.store.revision)
    lines = setup.watch(INITIAL)
    setup.create("two")
    first, mark = await lines.next()
    assert first["type"] == "ADDED"
    assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
    assert mark["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == opened_at
    assert await lines.changes() == [("ADDED", "two")]


async def test_an_idle_watch_sends_bookmarks_if_allowed(setup: Setup) -> None:
    """They have the latest version of all resources."""
    lines = setup.watch(WatchOptions(since=str(setup.store.revision), bookmarks=True))
    setup.store.create(setup.res("namespaces"), None, {"metadata": {"name": "b"}}, Options())
    (mark,) = await lines.next()
    assert (mark["type"], mark["object"]["metadata"]["resourceVersion"]) == (
        "BOOKMARK",
        str(setup.store.revision),
    )


async def test_a_watch_ends_at_its_deadline_without_bookmarks_if_not_allowed(setup: Setup) -> None:
    """timeoutSeconds: a clean end."""
    lines = setup.watch(WatchOptions(since=str(setup.store.revision), seconds=0.05))
    with pytest.raises(StopAsyncIteration):
        await lines.next()


async def test_a_version_that_is_too_old_is_an_error_in_the_stream(setup: Setup) -> None:
    """As from a real API server; clients list again."""
    setup.create("one")
    for number in range(WINDOW + 1):
        setup.label("one", n=str(number))
    lines = setup.watch(WatchOptions(since="1"))
    (error,) = await lines.next()
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
    with pytest.raises(StopAsyncIteration):
        await lines.next()


def test_a_version_in_the_future_is_refused(setup: Setup) -> None:
    """As after the store was rolled back."""
    with pytest.raises(ApiError, match="Too large resource version: 999") as refused:
        setup.watch(WatchOptions(since="999"))
    assert refused.value.code == 504


@pytest.mark.parametrize(
    "options",
    [
        WatchOptions(match="NotOlderThan"),
        WatchOptions(initial=True),
        WatchOptions(initial=True, match="Exact"),
    ],
)
def test_invalid_combinations_of_options_are_refused(setup: Setup, options: WatchOptions) -> None:
    """Kubectl falls back to list and watch on a 422."""
    with pytest.raises(ApiError) as refused:
        setup.watch(options)
    assert refused.value.code == 422


async def test_an_object_that_no_longer_matches_is_deleted(setup: Setup) -> None:
    """And added when it matches again."""
    setup.create("one", a="b")
    lines = setup.watch(WatchOptions(), Query(label_selector="a=b"))
    await lines.next()
    setup.label("one", a="c")
    setup.label("one", a="b")
    assert await lines.changes() == [("DELETED", "one"), ("ADDED", "one")]


async def test_only_the_first_table_has_column_definitions(setup: Setup) -> None:
    """Each change is a Table of one row."""
    setup.create("one")
    lines = setup.watch(INITIAL, form=Form("Table"))
    setup.label("one", a="b")
    first, mark = await lines.next()
    (second,) = await lines.next()
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "one"
    assert mark["object"]["rows"][0]["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}


async def test_stopping_the_server_ends_a_watch_after_its_queued_events(setup: Setup) -> None:
    """Cleanly, so that clients resume from the last version."""
    lines = setup.watch(WatchOptions())
    setup.create("one")
    lines.watch.end()
    assert await lines.changes() == [("ADDED", "one")]
    with pytest.raises(StopAsyncIteration):
        await lines.next()


async def test_a_slow_client_is_disconnected(setup: Setup) -> None:
    """Rather than buffering without limit; it lists again."""
    setup.create("one")
    lines = setup.watch(WatchOptions(since=str(setup.store.revision)))
    for number in range(13):
        setup.label("one", n=str(number))
    assert len(await lines.next()) == 10
    with pytest.raises(StopAsyncIteration):
        await lines.next()
