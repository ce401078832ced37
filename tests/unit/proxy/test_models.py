"""ModelTable: whom it believes, and that an index kept by changes equals one built from scratch."""

from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.model import LiteLLM, Model
from flexinfer.api.names import aliases
from flexinfer.events import events
from flexinfer.proxy import routing
from flexinfer.proxy.models import Change, ModelTable
from tests.unit.proxy.parts import Parts, deleted, ready, scaled_to_zero, with_parts

NAMES, ALIASES = ("a", "b", "c"), ("x", "y", "a")
Step = tuple[str, tuple[Model, ...]]


def with_aliases(model: Model, *names: str) -> Model:
    """Return a Model with these aliases."""
    return msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, litellm=LiteLLM(aliases=names))
    )


@st.composite
def models(draw: st.DrawFn) -> Model:
    """Draw one of a few Models, in one of a few versions: ready or not."""
    name, uid = draw(st.sampled_from(NAMES)), draw(st.sampled_from(("1", "2")))
    version = draw(st.integers(1, 12))
    make = ready if draw(st.booleans()) else scaled_to_zero
    model = make(name, uid=f"{name}-{uid}", version=version)
    return with_aliases(model, *draw(st.sets(st.sampled_from(ALIASES), max_size=2)))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """Draw what may arrive: an event of the stream, an answer of the API server, or a replay."""
    kind = draw(st.sampled_from(("observe", "confirm", "delete", "replace")))
    size = 3 if kind == "replace" else 1
    return kind, tuple(draw(st.lists(models(), min_size=1, max_size=size)))


def take(table: ModelTable, step: Step) -> list[Change | None]:
    """Apply a step to a table."""
    kind, [first, *_] = step
    match kind:
        case "observe":
            return [table.observe(first)]
        case "confirm":
            return [table.confirm(first)]
        case "delete":
            return [table.apply(deleted(first, version=first.metadata.version))]
        case _:
            return [*table.replace(events.ModelObserved(model=m) for m in step[1])]


def by_scan(name: str, table: ModelTable) -> Model | None:
    """Return the Model of a name by looking at all of them."""
    named = table.models.get(f"default/{name}") or table.models.get(name)
    claimed = [m for m in table.models.values() if name in aliases(m)]
    return named or (claimed[0] if len(claimed) == 1 else None)


@settings(deadline=None)
@given(st.lists(steps(), max_size=20))
def test_names_are_found_as_a_search_through_all_models_finds_them(history: list[Step]) -> None:
    """After any history, and each change says what was before and after."""
    table = ModelTable()
    mirror: dict[str, Model] = {}
    for step in history:
        for change in take(table, step):
            if change is not None and change.before is not None:
                assert mirror.pop(change.before.key) is change.before
            if change is not None and change.after is not None:
                mirror[change.after.key] = change.after
        assert mirror == dict(table.models)
        for name in (*NAMES, *ALIASES, *table.models, "unknown"):
            assert routing.find_model(name, table, "default") is by_scan(name, table)


@settings(deadline=None)
@given(st.lists(steps(), max_size=12))
def test_routes_kept_by_changes_equal_those_built_from_scratch(history: list[Step]) -> None:
    """One route for each Model that there is, to its engine's address, and no other."""

    async def main(parts: Parts) -> None:
        view = parts.view
        for step in history:
            for change in take(view.table, step):
                view._apply(change)
        routes = {uid: (route.model, route.address) for uid, route in view._routes.items()}
        assert routes == {m.uid: (m, routing.ready_address(m)) for m in view.table.models.values()}
        assert not any(route.deleted for route in view._routes.values())

    with_parts(main)


class Unwalked(dict[Any, Any]):
    """A dict that may not be walked through: what does so costs as much as there are Models."""

    def __iter__(self) -> Iterator[Any]:
        raise AssertionError("all Models were walked through")

    def values(self) -> Any:
        """Fail."""
        return iter(self)

    items = keys = values


def test_a_change_of_one_model_and_a_request_look_at_that_model_alone() -> None:
    """However many there are."""

    async def main(parts: Parts) -> None:
        view, table = parts.view, parts.view.table
        await parts.observe(scaled_to_zero(), with_aliases(scaled_to_zero("other"), "gpt-4"))
        table._models = Unwalked(table._models)
        table.models, view._routes = table._models, Unwalked(view._routes)
        await parts.observe(ready(version=5))
        assert await parts.send() == "127.0.0.9:8080"
        assert parts.gateway.find("gpt-4").metadata.name == "other"
        await parts.observe(deleted(ready(version=5)))
        assert table.models.get("default/llama") is None

    with_parts(main)


def test_an_answer_of_the_api_server_counts_also_if_it_is_older() -> None:
    """It may have been restored from a backup."""
    table = ModelTable()
    table.observe(ready(version=9))
    older = scaled_to_zero(version=5)
    assert table.confirm(older) is not None
    assert table.models["default/llama"] is older


def test_a_replay_keeps_what_a_newer_answer_told_of_the_same_model() -> None:
    """A later Model of the name replaces it, whatever its version."""
    table = ModelTable()
    newer = ready(version=9)
    table.confirm(newer)
    assert table.replace([events.ModelObserved(model=scaled_to_zero(version=5))]) == []
    assert table.models["default/llama"] is newer
    namesake = scaled_to_zero(version=6, uid="uid-2")
    [change] = table.replace([events.ModelObserved(model=namesake)])
    assert change == Change(newer, namesake)


def test_a_replay_replaces_what_the_stream_told() -> None:
    """It is all that the stream holds: an older version there is that of a restored API server."""
    table = ModelTable()
    table.observe(ready(version=9))
    older = scaled_to_zero(version=5)
    [change] = table.replace([events.ModelObserved(model=older)])
    assert change.after is older
    assert table.replace([]) == [Change(older, None)]


def test_a_message_of_the_stream_counts_unless_an_answer_was_newer() -> None:
    """The same version changes nothing."""
    table = ModelTable()
    assert table.observe(ready(version=3)) is not None
    assert table.confirm(ready(version=7)) is not None
    assert table.observe(ready(version=5)) is None
    assert table.observe(ready(version=7)) is None
    assert table.observe(scaled_to_zero(version=8)) is not None


def test_a_version_below_that_which_the_stream_delivered_before_counts() -> None:
    """The API server was restored; also to before a deletion."""
    table = ModelTable()
    table.observe(ready(version=9))
    older = scaled_to_zero(version=5)
    assert table.observe(older) == Change(ready(version=9), older)
    table.apply(deleted(older, version=12))
    again = scaled_to_zero(version=6)
    assert table.observe(again) == Change(None, again)


def test_a_deletion_takes_what_is_older_whatever_its_uid() -> None:
    """The stream may never have held the last Model of a name, which an answer reported."""
    for uid in ("first", ""):
        table = ModelTable()
        table.confirm(ready(uid="second", version=7))
        gone = events.ModelDeleted(namespace="default", name="llama", uid=uid, version=6)
        table.apply(gone)
        assert table.models
        table.apply(msgspec.structs.replace(gone, version=8))
        assert not table.models


def test_the_version_is_the_highest_that_was_observed() -> None:
    """Deletions count; a replay says it again."""
    table = ModelTable()
    assert table.version == 0
    table.observe(ready(version=5))
    table.observe(ready("other", version=3))
    assert table.version == 5
    table.apply(deleted(ready("other"), version=8))
    assert table.version == 8
    table.replace([events.ModelObserved(model=ready(version=6))])
    assert table.version == 6


def test_what_no_api_server_holds_is_no_model() -> None:
    """A bad number is not ours."""
    table = ModelTable()
    odd: tuple[Any, ...] = ("abc", "-1", str(2**64), "9" * 5000)
    for version in odd:
        assert table.observe(ready(version=version)) is None
        assert table.confirm(ready(version=version)) is None
    assert table.observe(ready("x" * 254)) is None
    assert table.observe(ready(uid="")) is None


def test_a_model_with_a_config_that_is_no_number_serves_without_a_limit() -> None:
    """Its spec is not accepted, and costs no other Model anything."""

    async def main(parts: Parts) -> None:
        odd: tuple[Any, ...] = ("abc", None, [], float("inf"), -3, 0)
        for version, parallel in enumerate(odd, 2):
            await parts.observe(ready(version=version, config={"parallel": parallel}))
            assert await parts.send() == "127.0.0.9:8080"

    with_parts(main)
