"""The schema of metav1.ObjectMeta, which all kinds share.

The syntax of names, labels, annotations and finalizers is validated in `metadata_validation`.
"""

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
        "generateName": _STRING
        | {"description": "Prefix for a unique name that the server generates if name is empty."},
        "namespace": _STRING
        | {"description": "Namespace defines the space within which each name is unique."},
        "uid": _STRING | {"description": "UID is unique in time and space; the server sets it."},
        "resourceVersion": _STRING
        | {"description": "Opaque version of the object, for optimistic concurrency and watches."},
        "generation": {
            "type": "integer",
            "format": "int64",
            "description": "Sequence number of the desired state.",
        },
        "selfLink": _STRING | {"description": "Deprecated and never set."},
        "creationTimestamp": _TIME | {"description": "When the object was created; set by the server."},
        "deletionTimestamp": _TIME
        | {"description": "When the object will be deleted; set by the server on a graceful deletion."},
        "deletionGracePeriodSeconds": {
            "type": "integer",
            "format": "int64",
            "description": "Seconds the object has to terminate gracefully before it is removed.",
        },
        "labels": _TEXTS | {"description": "Labels are used to organize and to select objects."},
        "annotations": _TEXTS | {"description": "Annotations hold arbitrary metadata."},
        "finalizers": {
            "type": "array",
            "items": _STRING,
            "x-kubernetes-list-type": "set",
            "description": "Must be empty before the object is removed; each names a responsible component.",
        },
        "ownerReferences": {
            "type": "array",
            "items": _OWNER,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["uid"],
            "description": "Objects that this object depends on; it is deleted when all of them are.",
        },
        "managedFields": {
            "type": "array",
            "description": "Which field manager owns which fields.",
        },
    },
}


def object_meta_schema(crd_schema: Object | None) -> Object:
    """Return the schema of ObjectMeta with what a CRD declares for `name` and `generateName`.

    The other fields of metadata cannot be restricted, as in Kubernetes.
    """
    restrictions = (crd_schema or {}).get("properties", {})
    if not restrictions:
        return OBJECT_META
    fields: Object = OBJECT_META["properties"]
    names = {key: fields[key] | restrictions[key] for key in ("name", "generateName") if key in restrictions}
    return OBJECT_META | {"properties": fields | names}
