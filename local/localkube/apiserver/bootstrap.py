"""The initial content of a store: definitions, namespaces and other objects, written before it serves.

Which content that is, is the caller's to say; only the namespaces of every cluster are the default here.
"""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from localkube.apiserver.errors import ApiError
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.yaml_documents import documents

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """The initial content: `definitions` are applied at every start, the rest is created if absent.

    `manager` is the field manager of all these writes.
    """

    definitions: Sequence[Object] = ()
    namespaces: Sequence[str] = NAMESPACES
    objects: Sequence[Object] = ()
    manager: str = "localkube"


def bootstrap(store: Store, registry: Registry, content: Content) -> None:
    """Write the initial content; unchanged definitions and existing objects are not written.

    Raises LookupError for a kind that is not served, ApiError if the store refuses an object.
    """
    force = Options(manager=content.manager, force=True)
    for obj in content.definitions:
        store.patch(_resource(registry, obj), None, obj["metadata"]["name"], Patch("apply", obj), force)
    for name in content.namespaces:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        _ensure(store, registry, namespace, content.manager)
    for obj in content.objects:
        _ensure(store, registry, obj, content.manager)


def read_definitions(paths: Sequence[Path]) -> list[Object]:
    """Return the objects in YAML files; a directory stands for its `*.yaml`, in the order of their names.

    Raises OSError and yaml.YAMLError.
    """
    files = [file for path in paths for file in (sorted(path.glob("*.yaml")) if path.is_dir() else [path])]
    return [obj for file in files for obj in documents(file.read_text())]


def _resource(registry: Registry, obj: Object) -> Resource:
    res = registry.kind(obj["apiVersion"], obj["kind"])
    if res is None:
        raise LookupError(f"{obj['kind']} of {obj['apiVersion']} is not served")
    return res


def _ensure(store: Store, registry: Registry, obj: Object, manager: str) -> None:
    res, namespace = _resource(registry, obj), obj["metadata"].get("namespace")
    try:
        store.get(res, namespace, obj["metadata"]["name"])
    except ApiError:
        store.create(res, namespace, obj, Options(manager=manager))
