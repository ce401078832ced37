"""The words in which the schemas of built-in kinds are written: a field in a call."""

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
"""What is stored as it is given, because nothing here reads it."""


def record(required: str = "", /, **properties: Object) -> Object:
    """Return an object with these fields; the required ones are named with spaces between."""
    schema: Object = {"type": "object", "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def several(items: Object, keys: str = "") -> Object:
    """Return a list: told apart by keys, named with spaces between, else one value."""
    if not keys:
        return {"type": "array", "items": items, "x-kubernetes-list-type": "atomic"}
    return {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": keys.split(),
    }


def one_of(*choices: str, default: str = "") -> Object:
    """Return a text that is one of the choices."""
    return TEXT | {"enum": list(choices)} | ({"default": default} if default else {})


def by_default(field: Object, value: Any) -> Object:
    """Return the field with a default."""
    return field | {"default": value}


def described(field: Object, text: str) -> Object:
    """Return the field with a description."""
    return field | {"description": text}


def conditions(*, more: bool = False) -> Object:
    """Return a list of conditions; `more` adds the probe and heartbeat times that Pods, Jobs and Nodes carry."""
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
