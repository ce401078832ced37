"""What a new API holds before anybody asks: the definitions of crds/, the first namespaces, and the local StorageClass."""

from collections.abc import Iterator
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import yaml

from flexinfer.local.api.errors import ApiError
from flexinfer.local.api.requests import Options, Patch
from flexinfer.local.api.resources import Object, Resource
from flexinfer.local.api.store import Store

NAMESPACES = ("default", "kube-system", "flexinfer-system")
STORAGE_CLASS = "flexinfer-local"
MANAGER = "flexinfer-local"
_OPTIONS = Options(manager=MANAGER, force=True)


def crd_files() -> list[Traversable]:
    """Return the definitions' files: inside the package when installed from a wheel, in the repository's crds/ otherwise."""
    packaged = files("flexinfer.local") / "crds"
    folder: Traversable = packaged if packaged.is_dir() else Path(__file__).resolve().parents[4] / "crds"
    found = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return sorted(found, key=lambda entry: entry.name)


def set_up(store: Store) -> None:
    """Bring definitions, namespaces and StorageClass to what this release says; what is so already is not written."""
    for obj in _objects():
        group, _, version = obj["apiVersion"].rpartition("/")
        res = _resource(store, group, version, obj["kind"])
        store.patch(res, None, obj["metadata"]["name"], Patch("apply", obj), _OPTIONS)
    spaces = _resource(store, "", "v1", "Namespace")
    for name in NAMESPACES:
        _ensure(store, spaces, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    _ensure(
        store,
        _resource(store, "storage.k8s.io", "v1", "StorageClass"),
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": STORAGE_CLASS},
            "provisioner": "flexinfer.ai/local",
            "reclaimPolicy": "Retain",
            "volumeBindingMode": "WaitForFirstConsumer",
        },
    )


def _objects() -> Iterator[Object]:
    for file in crd_files():
        for document in yaml.safe_load_all(file.read_text()):
            if document:
                yield document


def _resource(store: Store, group: str, version: str, kind: str) -> Resource:
    for res in store.registry.resources():
        if (res.group, res.version, res.kind) == (group, version, kind):
            return res
    raise LookupError(f"{kind} of {group or 'the core group'}/{version} is not offered")


def _ensure(store: Store, res: Resource, obj: Object) -> None:
    try:
        store.get(res, None, obj["metadata"]["name"])
    except ApiError:
        store.create(res, None, obj, Options(manager=MANAGER))
