"""OpenAPI v3 documents of `/openapi/v3`, one for each group and version, generated from the registry.

Like kube-openapi and apiextensions-apiserver/pkg/controller/openapi. kubectl reads them for `explain` and to
learn that the server supports field validation and dry runs. They hold paths, verbs, query parameters and
schemas; error responses and the descriptions of responses are left out. Of OpenAPI v2 there is an empty document.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from localkube.apiserver.metadata_schema import OBJECT_META
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Object, Resource

_PREFIX: Final = "#/components/schemas/"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_HIDDEN: Final = frozenset({"x-kubernetes-validations"})
_APPLY: Final = ("application/apply-patch+yaml",)
_PATCHES: Final = ("application/json-patch+json", "application/merge-patch+json", *_APPLY)
_PACKAGES: Final[Mapping[str, str]] = {
    "": "io.k8s.api.core",
    "batch": "io.k8s.api.batch",
    "coordination.k8s.io": "io.k8s.api.coordination",
    "storage.k8s.io": "io.k8s.api.storage",
    "apiextensions.k8s.io": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions",
}
V2_MEDIA: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2"
"""How a client asks for protobuf: `...v2.v1.0+protobuf`, or `...v2@v1.0+protobuf` as kubectl does."""
V2: Final[Mapping[str, bytes]] = {
    V2_MEDIA: b"\x0a\x032.0"  # swagger: "2.0"
    b"\x12\x0f\x0a\x09localkube\x12\x02v1"  # info: title, version
    b"\x42\x00",  # paths: none
    "application/json": b'{"swagger":"2.0","info":{"title":"localkube","version":"v1"},"paths":{}}\n',
}
"""`/openapi/v2` by media type. kubectl 1.37 requests it, in protobuf alone, before it applies a `kind: List`. Without
definitions in it kubectl leaves the validation to the server (`fieldValidation=Strict`)."""
_CONVENTIONS: Final = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
_SHARED: Final[Mapping[str, str]] = {
    "apiVersion": "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized "
    "schemas to the latest internal value, and may reject unrecognized values. More info: "
    f"{_CONVENTIONS}#resources",
    "kind": "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint "
    f"the client submits requests to. Cannot be updated. In CamelCase. More info: {_CONVENTIONS}#types-kinds",
    "metadata": f"Standard object's metadata. More info: {_CONVENTIONS}#metadata",
}
"""The descriptions that a real API server publishes, whatever the CustomResourceDefinition says."""
_LIST_META: Final[Object] = {
    "type": "object",
    "description": "ListMeta describes a list.",
    "properties": {
        "continue": {"type": "string"},
        "remainingItemCount": {"type": "integer", "format": "int64"},
        "resourceVersion": {"type": "string"},
        "selfLink": {"type": "string"},
    },
}
_SELECTION: Final = (
    "labelSelector",
    "fieldSelector",
    "limit",
    "continue",
    "resourceVersion",
    "timeoutSeconds",
)
_WATCHING: Final = (*_SELECTION, "watch", "allowWatchBookmarks", "resourceVersionMatch", "sendInitialEvents")
_WRITING: Final = ("dryRun", "fieldManager", "fieldValidation")
_DELETING: Final = ("dryRun", "gracePeriodSeconds", "propagationPolicy", "orphanDependents")
_KINDS: Final[Mapping[str, str]] = {
    "limit": "integer",
    "timeoutSeconds": "integer",
    "gracePeriodSeconds": "integer",
    "watch": "boolean",
    "allowWatchBookmarks": "boolean",
    "sendInitialEvents": "boolean",
    "orphanDependents": "boolean",
    "force": "boolean",
}
_ACTIONS: Final[Mapping[str, str]] = {
    "get": "get",
    "list": "list",
    "create": "post",
    "update": "put",
    "patch": "patch",
    "delete": "delete",
    "deletecollection": "deletecollection",
}


def document(registry: Registry, group: str, version: str) -> Object:
    """Return the document of a group and version for the resources that are in the registry now."""
    resources = [res for res in registry.resources() if (res.group, res.version) == (group, version)]
    schemas: Object = {f"{_META}ObjectMeta": OBJECT_META, f"{_META}ListMeta": _LIST_META}
    paths: Object = {}
    for res in resources:
        schemas |= _schemas(registry, res)
        paths |= _paths(res)
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "v1.37.0"},
        "paths": paths,
        "components": {"schemas": schemas},
    }


def schema_name(res: Resource) -> str:
    """Return the name of a resource's schema: the Go package of a built-in kind, else the reversed group."""
    package = _PACKAGES.get(res.group) or ".".join(reversed(res.group.split(".")))
    return f"{package}.{res.version}.{res.kind}"


def _schemas(registry: Registry, res: Resource) -> Object:
    schema = registry.schema(res) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    name = schema_name(res)
    whole = _published(schema)
    metadata: Object = {"allOf": [{"$ref": f"{_PREFIX}{_META}ObjectMeta"}], "default": {}}
    whole["properties"] = whole.get("properties", {}) | {
        field: below | {"description": _SHARED[field]}
        for field, below in (
            ("apiVersion", {"type": "string"}),
            ("kind", {"type": "string"}),
            ("metadata", metadata),
        )
    }
    whole["x-kubernetes-group-version-kind"] = [_kind(res)]
    object_list = {
        "type": "object",
        "description": f"{res.kind}List is a list of {res.kind}.",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"allOf": [{"$ref": f"{_PREFIX}{_META}ListMeta"}], "default": {}},
            "items": {"type": "array", "items": {"allOf": [{"$ref": f"{_PREFIX}{name}"}], "default": {}}},
        },
        "x-kubernetes-group-version-kind": [_kind(res) | {"kind": f"{res.kind}List"}],
    }
    return {name: whole, f"{name}List": object_list}


def _published(schema: Any) -> Any:
    """Return a schema as a real server publishes it: without CEL rules, int-or-string as `oneOf`."""
    if isinstance(schema, list):
        return [_published(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    result = {
        key: {name: _published(below) for name, below in value.items()}
        if key == "properties"
        else value
        if key in ("default", "enum", "example")
        else _published(value)
        for key, value in schema.items()
        if key not in _HIDDEN
    }
    if result.get("x-kubernetes-int-or-string"):
        result = {key: value for key, value in result.items() if key != "anyOf"}
        result["oneOf"] = [{"type": "integer"}, {"type": "string"}]
    return result


def _paths(res: Resource) -> Object:
    root = f"/apis/{res.group}/{res.version}" if res.group else f"/api/{res.version}"
    space = "/namespaces/{namespace}" if res.namespaced else ""
    collection, item = f"{root}{space}/{res.plural}", f"{root}{space}/{res.plural}/{{name}}"
    parameters = [_parameter("namespace", "path")] if res.namespaced else []
    paths: Object = {
        collection: _operations(res, {"get": "list", "post": "create", "delete": "deletecollection"})
        | ({"parameters": parameters} if parameters else {}),
        item: _operations(res, {"get": "get", "put": "update", "patch": "patch", "delete": "delete"})
        | {"parameters": [_parameter("name", "path"), *parameters]},
    }
    if res.namespaced:
        paths[f"{root}/{res.plural}"] = _operations(res, {"get": "list"})
    if "status" in res.subresources:
        status = _operations(res, {"get": "get", "put": "update", "patch": "patch"})
        paths[f"{item}/status"] = status | {"parameters": [_parameter("name", "path"), *parameters]}
    return paths


def _operations(res: Resource, verbs: Mapping[str, str]) -> Object:
    return {method: _operation(res, verb) for method, verb in verbs.items() if verb in res.verbs}


def _operation(res: Resource, verb: str) -> Object:
    name = f"{schema_name(res)}List" if verb == "list" else schema_name(res)
    content = {"application/json": {"schema": {"$ref": f"{_PREFIX}{name}"}}}
    operation: Object = {
        "description": f"{verb} {res.kind}",
        "operationId": f"{verb}{res.group.title().replace('.', '')}{res.version.title()}{res.kind}",
        "parameters": [_parameter(each, "query") for each in _queries(verb)],
        "responses": {"200": {"description": "OK", "content": content}},
        "x-kubernetes-action": _ACTIONS[verb],
        "x-kubernetes-group-version-kind": _kind(res),
    }
    body = _body(res, verb)
    return operation | ({"requestBody": {"required": True, "content": body}} if body else {})


def _body(res: Resource, verb: str) -> Object:
    if verb == "patch":
        return {kind: {"schema": {"type": "object"}} for kind in _PATCHES}
    if verb in ("create", "update"):
        return {"*/*": {"schema": {"$ref": f"{_PREFIX}{schema_name(res)}"}}}
    return {}


def _queries(verb: str) -> Iterable[str]:
    match verb:
        case "list":
            return _WATCHING
        case "create" | "update":
            return _WRITING
        case "patch":
            return (*_WRITING, "force")
        case "delete":
            return _DELETING
        case "deletecollection":
            return (*_DELETING, *_SELECTION)
        case _:
            return ()


def _parameter(name: str, location: str) -> Object:
    kind = _KINDS.get(name, "string")
    return {"name": name, "in": location, "schema": {"type": kind, "uniqueItems": True}} | (
        {"required": True} if location == "path" else {}
    )


def _kind(res: Resource) -> Object:
    return {"group": res.group, "version": res.version, "kind": res.kind}
