"""Definitions say that they are established."""

from datetime import UTC, datetime

from flexinfer.local.api.controllers.establishing import Establishing
from flexinfer.local.api.definitions import Registry
from flexinfer.local.api.requests import Patch
from flexinfer.local.api.setting import set_up
from flexinfer.local.api.store import DEFINITIONS, Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_definition_is_established_once() -> None:
    """And keeps its status when something else of it changes."""
    registry = Registry()
    store = Store(registry, now=lambda: NOW)
    establishing = Establishing(store, lambda: NOW)
    set_up(store, registry)
    res = store.resource(DEFINITIONS)
    assert res is not None
    assert (establishing.step(), establishing.step()) == (True, False)
    first = store.get(res, None, "models.ai.flexinfer")["status"]
    store.patch(res, None, "models.ai.flexinfer", Patch("merge", {"metadata": {"labels": {"a": "b"}}}))
    establishing.step()
    assert store.get(res, None, "models.ai.flexinfer")["status"] == first
    assert [condition["type"] for condition in first["conditions"]] == ["NamesAccepted", "Established"]
    assert first["storedVersions"] == ["v1alpha2"]
