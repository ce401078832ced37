"""The shape of a resource's objects, compiled from its schema: how each place merges, and what the items of a list are called.

What merging does with it is in `merging`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Literal

from localkube.apiserver.managed_fields import key_element, value_element
from localkube.apiserver.resources import Object

KNOWN_KEYS: Final[Mapping[str, tuple[str, ...]]] = {  # of built-ins whose schema does not say
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
PORT_KEYS: Final = (("containerPort", "protocol"), ("port", "protocol"))


@dataclass(slots=True)
class Shape:
    """How one place of an object merges; what is not declared merges as `other`."""

    fields: dict[str, "Shape"] = field(default_factory=dict)
    other: "Shape | None" = None
    items: "Shape | None" = None
    whole: bool = False  # a map that is one value
    listing: Literal["atomic", "set", "map"] = "atomic"
    keys: tuple[str, ...] = ()
    key_defaults: Object = field(default_factory=dict)

    def child(self, name: str) -> "Shape":
        """Return the shape of a field."""
        return self.fields.get(name) or self.other or ANYTHING

    def element(self, item: Any) -> str:
        """Return the name of a list's item in a set of fields."""
        if self.listing == "set" or not isinstance(item, dict):
            return value_element(item)
        if len(self.keys) == 1 and isinstance(item.get(self.keys[0]), str):
            return _named(self.keys[0], item[self.keys[0]])
        keys = {key: item.get(key, self.key_defaults.get(key)) for key in self.keys}
        return key_element({key: value for key, value in keys.items() if value is not None})


@lru_cache(maxsize=4096)
def _named(key: str, value: str) -> str:
    return key_element({key: value})


ANYTHING: Final = Shape()  # maps by field, lists whole: what Kubernetes deduces without a schema
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
    """Return the shape of a whole object of that schema; a built-in's lists merge by their known keys, said or not."""
    shape = _compile(schema or {}, "", builtin=builtin)
    shape.fields["metadata"] = METADATA
    return shape


def _compile(schema: Object, name: str, *, builtin: bool) -> Shape:
    items = schema.get("items")
    extra = schema.get("additionalProperties")
    shape = Shape(
        fields={
            key: _compile(below, key, builtin=builtin) for key, below in schema.get("properties", {}).items()
        },
        other=_compile(extra, "", builtin=builtin) if isinstance(extra, dict) else None,
        items=_compile(items, "", builtin=builtin) if isinstance(items, dict) else None,
        whole=schema.get("x-kubernetes-map-type") == "atomic",
    )
    if isinstance(items, dict):
        shape.listing = schema.get("x-kubernetes-list-type", "atomic")
        shape.keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        if builtin and "x-kubernetes-list-type" not in schema:
            shape.keys = _known_keys(name, items.get("properties", {}))
            shape.listing = "map" if shape.keys else "atomic"
        properties = items.get("properties", {})
        shape.key_defaults = {
            key: properties[key]["default"] for key in shape.keys if "default" in properties.get(key, {})
        }
    return shape


def _known_keys(name: str, properties: Mapping[str, Any]) -> tuple[str, ...]:
    if name == "ports":
        return next((keys for keys in PORT_KEYS if keys[0] in properties), ())
    keys = KNOWN_KEYS.get(name, ())
    return keys if all(key in properties for key in keys) else ()
