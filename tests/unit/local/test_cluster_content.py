"""What a new API holds before the first request."""

from datetime import UTC, datetime

from flexinfer.local.cluster_content import content, crd_files
from localkube.apiserver.bootstrap import bootstrap
from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.resources import Object
from localkube.apiserver.store import Store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def names(store: Store, api_version: str, kind: str) -> list[str]:
    """Return the names of all objects of a kind."""
    res = store.registry.kind(api_version, kind)
    assert res is not None
    found: tuple[Object, ...] = store.list(res, None).items
    return [obj["metadata"]["name"] for obj in found]


def test_the_definitions_of_this_release_are_found() -> None:
    """In the repository here, in the package when installed from a wheel."""
    assert "models.yaml" in [file.name for file in crd_files()]


def test_a_new_store_offers_models_and_the_first_namespaces() -> None:
    """And the StorageClass of the local node with a PVC of it."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: NOW)
    bootstrap(store, registry, content())
    assert registry.find("ai.flexinfer", "v1alpha2", "models") is not None
    assert names(store, "v1", "Namespace") == [
        "default",
        "flexinfer-system",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert names(store, "storage.k8s.io/v1", "StorageClass") == ["flexinfer-local"]
    assert names(store, "v1", "PersistentVolumeClaim") == ["models"]


def test_what_is_so_already_is_not_written() -> None:
    """A restart is no change."""
    registry = builtin_registry()
    store = Store(registry, now=lambda: NOW)
    bootstrap(store, registry, content())
    before = store.revision
    bootstrap(store, registry, content())
    assert store.revision == before
