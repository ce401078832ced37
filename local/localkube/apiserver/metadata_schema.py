"""ObjectMeta: the schema of the metadata that every kind shares. What names and labels must look like stands in `naming`."""

from typing import Final

from localkube.apiserver.resources import Object

_STRING: Final[Object] = {"type": "string"}
_TIME: Final[Object] = {"type": "string", "format": "date-time", "nullable": True}
_TEXTS: Final[Object] = {"type": "object", "additionalProperties": {"type": "string"}}
_OWNER: Final[Object] = {
    "type": "object",
    "required": ["apiVersion", "kind", "name", "uid"],
    "x-kubernetes-map-type": "atomic",
    "properties": {
        "apiVersion": _STRING,
        "kind": _STRING,
        "name": _STRING,
        "uid": _STRING,
        "controller": {"type": "boolean"},
        "blockOwnerDeletion": {"type": "boolean"},
    },
}

OBJECT_META: Final[Object] = {
    "type": "object",
    "description": "ObjectMeta is metadata that all persisted resources must have.",
    "properties": {
        "name": _STRING | {"description": "Name must be unique within a namespace."},
        "generateName": _STRING | {"description": "Prefix of a name that the server completes."},
        "namespace": _STRING
        | {"description": "Namespace defines the space within which each name is unique."},
        "uid": _STRING | {"description": "UID is unique in time and space; the server sets it."},
        "resourceVersion": _STRING | {"description": "The version of the object; for conflicts and watches."},
        "generation": {
            "type": "integer",
            "format": "int64",
            "description": "Counts the changes of the desired state.",
        },
        "selfLink": _STRING | {"description": "Deprecated and never set."},
        "creationTimestamp": _TIME | {"description": "When the server made the object."},
        "deletionTimestamp": _TIME | {"description": "When its deletion was asked for."},
        "deletionGracePeriodSeconds": {
            "type": "integer",
            "format": "int64",
            "description": "How long it may take to end.",
        },
        "labels": _TEXTS | {"description": "Labels organise and select objects."},
        "annotations": _TEXTS | {"description": "Annotations hold arbitrary metadata."},
        "finalizers": {
            "type": "array",
            "items": _STRING,
            "x-kubernetes-list-type": "set",
            "description": "Who must let go before the object is gone.",
        },
        "ownerReferences": {
            "type": "array",
            "items": _OWNER,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "description": "What the object depends on.",
        },
        "managedFields": {
            "type": "array",
            "description": "Which manager owns which fields.",
        },
    },
}


def meta_for(said: Object | None) -> Object:
    """Return ObjectMeta's schema with what a CRD says beside it of `name` and `generateName`."""
    more = (said or {}).get("properties", {})
    if not more:
        return OBJECT_META
    known: Object = OBJECT_META["properties"]
    named = {key: known[key] | more[key] for key in ("name", "generateName") if key in more}
    return OBJECT_META | {"properties": known | named}
