"""Definitions say that they are established."""

from datetime import UTC, datetime

from flexinfer.local.cluster_content import content
from localkube.apiserver.bootstrap import bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.requests import Patch
from localkube.apiserver.store import DEFINITIONS, Store
from localkube.controllers.crd_establishing import EstablishingController

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_a_definition_is_established_once() -> None:
    """And keeps its status when something else of it changes."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: NOW)
    establishing = EstablishingController(store, lambda: NOW)
    bootstrap(store, registry, content())
    res = store.resource(DEFINITIONS)
    assert res is not None
    assert (establishing.step(), establishing.step()) == (True, False)
    first = store.get(res, None, "models.ai.flexinfer")["status"]
    store.patch(res, None, "models.ai.flexinfer", Patch("merge", {"metadata": {"labels": {"a": "b"}}}))
    establishing.step()
    assert store.get(res, None, "models.ai.flexinfer")["status"] == first
    assert [condition["type"] for condition in first["conditions"]] == ["NamesAccepted", "Established"]
    assert first["storedVersions"] == ["v1alpha2"]
