"""What a new API holds before anybody asks: the definitions of crds/, the first namespaces, and the local StorageClass."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from flexinfer.local.api.definitions import Registry
from flexinfer.local.api.errors import ApiError
from flexinfer.local.api.requests import Options, Patch
from flexinfer.local.api.resources import Object, Resource
from flexinfer.local.api.store import Store
from flexinfer.local.storage import CLASS

NAMESPACES = ("default", "kube-system", "flexinfer-system")
MANAGER = "flexinfer-local"
_OPTIONS = Options(manager=MANAGER, force=True)


def crd_files() -> list[Traversable]:
    """Return the definitions' files: inside the package when installed from a wheel, in the repository's crds/ otherwise."""
    packaged = files("flexinfer.local") / "crds"
    folder: Traversable = packaged if packaged.is_dir() else Path(__file__).resolve().parents[4] / "crds"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted(found, key=lambda entry: entry.name)


def set_up(store: Store, registry: Registry) -> None:
    """Bring definitions, namespaces and StorageClass to what this release says; what is so already is not written."""
    for obj in _objects():
        res = _resource(registry, obj)
        store.patch(res, None, obj["metadata"]["name"], Patch("apply", obj), _OPTIONS)
    for name in NAMESPACES:
        _ensure(store, registry, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    _ensure(store, registry, CLASS)


def _objects() -> Iterator[Object]:
    for file in crd_files():
        for document in yaml.safe_load_all(file.read_text()):
            if document:
                yield document


def _resource(registry: Registry, obj: Object) -> Resource:
    res = registry.kind(obj["apiVersion"], obj["kind"])
    if res is None:
        raise LookupError(f"{obj['kind']} of {obj['apiVersion']} is not offered")
    return res


def _ensure(store: Store, registry: Registry, obj: Object) -> None:
    res = _resource(registry, obj)
    try:
        store.get(res, None, obj["metadata"]["name"])
    except ApiError:
        store.create(res, None, obj, Options(manager=MANAGER))
