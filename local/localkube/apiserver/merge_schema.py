"""The merge schema of a resource: how each field of its objects merges, and how list items are identified.

Compiled from the OpenAPI schema (`x-kubernetes-list-type`, `-list-map-keys`, `-map-type`), like the typed
schema of structured-merge-diff. `structured_merge` merges, compares and prunes by it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from localkube.apiserver.managed_fields import key_element, value_element
from localkube.apiserver.resources import Object

LIST_MAP_KEYS: Final[
    Mapping[str, tuple[str, ...]]
] = {  # of built-in lists, whose schemas here leave them out
    "addresses": ("type",),
    "conditions": ("type",),
    "containers": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "resourceClaims": ("name",),
    "schedulingGates": ("name",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
_PORT_KEYS: Final = (("containerPort", "protocol"), ("port", "protocol"))


@dataclass(slots=True)
class Shape:
    """How one value merges; undeclared fields of a map merge as `other`, items of a list as `items`."""

    fields: dict[str, "Shape"] = field(default_factory=dict)
    other: "Shape | None" = None
    items: "Shape | None" = None
    whole: bool = False  # an atomic map
    listing: Literal["atomic", "set", "map"] = "atomic"  # x-kubernetes-list-type
    keys: tuple[str, ...] = ()
    key_defaults: Object = field(default_factory=dict)

    def child(self, name: str) -> "Shape":
        """Return the shape of a field of a map."""
        return self.fields.get(name) or self.other or ANYTHING

    def element(self, item: Any) -> str:
        """Return the path element of an item: by value in a set, by the keys or their defaults in a map."""
        if self.listing == "set" or not isinstance(item, dict):
            return value_element(item)
        if len(self.keys) == 1 and isinstance(item.get(self.keys[0]), str):
            return _single_key_element(self.keys[0], item[self.keys[0]])
        keys = {key: item.get(key, self.key_defaults.get(key)) for key in self.keys}
        return key_element({key: value for key, value in keys.items() if value is not None})


@lru_cache(maxsize=4096)
def _single_key_element(key: str, value: str) -> str:
    return key_element({key: value})


ANYTHING: Final = Shape()  # granular maps and atomic lists: what Kubernetes deduces without a schema
_ATOM: Final = Shape(whole=True)
METADATA: Final = Shape(
    fields={
        "labels": Shape(other=ANYTHING),
        "annotations": Shape(other=ANYTHING),
        "finalizers": Shape(listing="set"),
        "ownerReferences": Shape(listing="map", keys=("uid",), items=_ATOM),
        "managedFields": _ATOM,
    }
)


def compile_shape(schema: Object | None, *, builtin: bool = False) -> Shape:
    """Return the shape of an object; `builtin` uses LIST_MAP_KEYS for lists whose schema has no keys."""
    shape = _compile(schema or {}, "", builtin=builtin)
    shape.fields["metadata"] = METADATA
    return shape


def _compile(schema: Object, name: str, *, builtin: bool) -> Shape:
    items = schema.get("items")
    extra = schema.get("additionalProperties")
    shape = Shape(
        fields={
            key: _compile(child, key, builtin=builtin) for key, child in schema.get("properties", {}).items()
        },
        other=_compile(extra, "", builtin=builtin) if isinstance(extra, dict) else None,
        items=_compile(items, "", builtin=builtin) if isinstance(items, dict) else None,
        whole=schema.get("x-kubernetes-map-type") == "atomic",
    )
    if isinstance(items, dict):
        shape.listing = schema.get("x-kubernetes-list-type", "atomic")
        shape.keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        if builtin and "x-kubernetes-list-type" not in schema:
            shape.keys = _builtin_keys(name, items.get("properties", {}))
            shape.listing = "map" if shape.keys else "atomic"
        properties = items.get("properties", {})
        shape.key_defaults = {
            key: properties[key]["default"] for key in shape.keys if "default" in properties.get(key, {})
        }
    return shape


def _builtin_keys(name: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    if name == "ports":
        return next((keys for keys in _PORT_KEYS if keys[0] in properties), ())
    keys = LIST_MAP_KEYS.get(name, ())
    return keys if all(key in properties for key in keys) else ()
