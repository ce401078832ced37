"""Builders of the OpenAPI schemas of built-in kinds: each function returns a schema."""

from typing import Any, Final

from localkube.apiserver.resources import Object

_QUANTITY: Final = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
TEXT: Final[Object] = {"type": "string"}
FLAG: Final[Object] = {"type": "boolean"}
WHOLE: Final[Object] = {"type": "integer", "format": "int32"}
LONG: Final[Object] = {"type": "integer", "format": "int64"}
TIME: Final[Object] = {"type": "string", "format": "date-time", "nullable": True}
QUANTITY: Final[Object] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
    "pattern": _QUANTITY,
}
INT_OR_TEXT: Final[Object] = {
    "anyOf": [{"type": "integer"}, {"type": "string"}],
    "x-kubernetes-int-or-string": True,
}
TEXTS: Final[Object] = {"type": "object", "additionalProperties": TEXT}
QUANTITIES: Final[Object] = {"type": "object", "additionalProperties": QUANTITY}
ANYTHING: Final[Object] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
"""Any object; stored without validation, because no component of localkube reads it."""


def record(required: str = "", /, **properties: Object) -> Object:
    """Return the schema of an object with these properties.

    `required` names the required ones, separated by spaces.
    """
    schema: Object = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def several(items: Object, keys: str = "") -> Object:
    """Return the schema of a list: a `map` list with these keys, separated by spaces, else an atomic one."""
    if not keys:
        return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
    return {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys.split(),
    }


def one_of(*choices: str, default: str = "") -> Object:
    """Return the schema of an enum of strings."""
    return TEXT | {"enum": list(choices)} | ({"default": default} if default else {})


def by_default(field: Object, value: Any) -> Object:
    """Return the schema with a default."""
    return field | {"default": value}


def described(field: Object, text: str) -> Object:
    """Return the schema with a description."""
    return field | {"description": text}


def conditions(*, more: bool = False) -> Object:
    """Return the schema of conditions; `more` adds the probe and heartbeat times of Pods, Jobs and Nodes."""
    times = {"lastProbeTime": TIME, "lastHeartbeatTime": TIME} if more else {}
    condition = record(
        "type status",
        type=TEXT,
        status=one_of("True", "False", "Unknown"),
        reason=TEXT,
        message=TEXT,
        lastTransitionTime=TIME,
        observedGeneration=LONG,
        **times,
    )
    return several(condition, "type")
