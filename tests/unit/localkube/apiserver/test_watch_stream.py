"""Watches over a real store, line by line."""

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
from localkube.apiserver.tables import Form, Shaper
from localkube.apiserver.watch_cache import WINDOW
from localkube.apiserver.watch_stream import INITIAL_EVENTS_END, Watch

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
INITIAL = WatchOptions(bookmarks=True, initial=True, match="NotOlderThan")
ALL = Query()


class World:
    """A store with a namespace, and what tests do with it."""

    def __init__(self) -> None:
        self.registry = builtin_registry()
        self.store = Store(self.registry, now=lambda: NOW)
        self.shaper = Shaper(self.registry, lambda: NOW)
        self.maps = self.res("configmaps")
        self.store.create(self.res("namespaces"), None, {"metadata": {"name": "a"}}, Options())

    def res(self, plural: str) -> Resource:
        """Return a resource of the core group."""
        found = self.registry.find("", "v1", plural)
        assert found is not None
        return found

    def create(self, name: str, **labels: str) -> Object:
        """Create a ConfigMap."""
        obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
        return self.store.create(self.maps, "a", obj, Options()).obj

    def label(self, name: str, **labels: str) -> None:
        """Change the labels of a ConfigMap."""
        self.store.patch(self.maps, "a", name, Patch("merge", {"metadata": {"labels": labels}}))

    def watch(self, options: WatchOptions, query: Query = ALL, form: Form | None = None) -> "Lines":
        """Open a watch of ConfigMaps."""
        watch = Watch(self.store, self.shaper, self.maps, form or Form(), max_queue=10)
        watch.open("a", query, options)
        return Lines(watch, watch.lines(options, period=0.01))


@dataclass
class Lines:
    """An open watch, decoded."""

    watch: Watch
    chunks: AsyncIterator[bytes]

    async def next(self) -> list[Any]:
        """Return the events of the next chunk."""
        async with asyncio.timeout(5):
            return [msgspec.json.decode(line) for line in (await anext(self.chunks)).splitlines()]

    async def told(self) -> list[tuple[str, str]]:
        """Return type and name of each event of the next chunk."""
        return [(event["type"], event["object"]["metadata"].get("name", "")) for event in await self.next()]


@pytest.fixture
def world() -> World:
    """Return a fresh world."""
    return World()


async def test_without_a_version_the_state_comes_first(world: World) -> None:
    """Synthetic additions, then what changes."""
    world.create("one")
    lines = world.watch(WatchOptions())
    assert await lines.told() == [("ADDED", "one")]
    world.create("two")
    world.label("one", a="b")
    world.store.delete(world.maps, "a", "two")
    assert await lines.told() == [("ADDED", "two"), ("MODIFIED", "one"), ("DELETED", "two")]


async def test_from_a_version_on_nothing_is_missed_and_nothing_told_twice(world: World) -> None:
    """Also what happened between the list and the watch."""
    world.create("one")
    version = world.store.list(world.maps, "a").resource_version
    world.create("two")
    lines = world.watch(WatchOptions(since=version))
    world.create("three")
    assert await lines.told() == [("ADDED", "two"), ("ADDED", "three")]


async def test_initial_events_end_in_a_bookmark_of_their_version(world: World) -> None:
    """Without the annotation, `kubectl wait` waits in vain; with a later version, a change would be lost."""
    world.create("one")
    opened_at = str(world.store.revision)
    lines = world.watch(INITIAL)
    world.create("two")
    first, mark = await lines.next()
    assert first["type"] == "ADDED"
    assert (mark["type"], mark["object"]["kind"]) == ("BOOKMARK", "ConfigMap")
    assert mark["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}
    assert mark["object"]["metadata"]["resourceVersion"] == opened_at
    assert await lines.told() == [("ADDED", "two")]


async def test_a_quiet_watch_sends_bookmarks_to_those_who_allow_them(world: World) -> None:
    """They carry the newest version, though it is another resource's."""
    lines = world.watch(WatchOptions(since=str(world.store.revision), bookmarks=True))
    world.store.create(world.res("namespaces"), None, {"metadata": {"name": "b"}}, Options())
    (mark,) = await lines.next()
    assert (mark["type"], mark["object"]["metadata"]["resourceVersion"]) == (
        "BOOKMARK",
        str(world.store.revision),
    )


async def test_a_watch_ends_at_its_deadline_without_bookmarks_if_not_allowed(world: World) -> None:
    """timeoutSeconds: a clean end."""
    lines = world.watch(WatchOptions(since=str(world.store.revision), seconds=0.05))
    with pytest.raises(StopAsyncIteration):
        await lines.next()


async def test_a_version_that_is_too_old_is_an_error_in_the_stream(world: World) -> None:
    """As from a real API server's cache: clients list again."""
    world.create("one")
    for number in range(WINDOW + 1):
        world.label("one", n=str(number))
    lines = world.watch(WatchOptions(since="1"))
    (error,) = await lines.next()
    assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
    with pytest.raises(StopAsyncIteration):
        await lines.next()


def test_a_version_of_the_future_is_refused(world: World) -> None:
    """A client of a store that was rolled back learns it at once."""
    with pytest.raises(ApiError, match="Too large resource version: 999") as refused:
        world.watch(WatchOptions(since="999"))
    assert refused.value.code == 504


@pytest.mark.parametrize(
    "options",
    [
        WatchOptions(match="NotOlderThan"),
        WatchOptions(initial=True),
        WatchOptions(initial=True, match="Exact"),
    ],
)
def test_options_that_do_not_go_together_are_refused(world: World, options: WatchOptions) -> None:
    """Kubectl falls back to list and watch on a 422."""
    with pytest.raises(ApiError) as refused:
        world.watch(options)
    assert refused.value.code == 422


async def test_what_leaves_a_selection_is_deleted_for_its_watcher(world: World) -> None:
    """And added when it comes in."""
    world.create("one", a="b")
    lines = world.watch(WatchOptions(), Query(label_selector="a=b"))
    await lines.next()
    world.label("one", a="c")
    world.label("one", a="b")
    assert await lines.told() == [("DELETED", "one"), ("ADDED", "one")]


async def test_only_the_first_row_of_a_table_brings_the_columns(world: World) -> None:
    """Each change is a Table of one row."""
    world.create("one")
    lines = world.watch(INITIAL, form=Form("Table"))
    world.label("one", a="b")
    first, mark = await lines.next()
    (second,) = await lines.next()
    assert [column["name"] for column in first["object"]["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert second["object"]["columnDefinitions"] is None
    assert second["object"]["rows"][0]["cells"][0] == "one"
    assert mark["object"]["rows"][0]["object"]["metadata"]["annotations"] == {INITIAL_EVENTS_END: "true"}


async def test_the_end_of_the_server_ends_a_watch_after_what_it_had_to_say(world: World) -> None:
    """Cleanly, so that clients come back with the last version they saw."""
    lines = world.watch(WatchOptions())
    world.create("one")
    lines.watch.end()
    assert await lines.told() == [("ADDED", "one")]
    with pytest.raises(StopAsyncIteration):
        await lines.next()


async def test_a_client_too_slow_to_follow_is_cut_off(world: World) -> None:
    """Rather than filling the memory; it lists again."""
    world.create("one")
    lines = world.watch(WatchOptions(since=str(world.store.revision)))
    for number in range(13):
        world.label("one", n=str(number))
    assert len(await lines.next()) == 10
    with pytest.raises(StopAsyncIteration):
        await lines.next()
