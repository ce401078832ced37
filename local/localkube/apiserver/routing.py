"""Routing: from the path and method of a request to a resource, an object, a subresource and a verb.

Like apiserver/pkg/endpoints/request/requestinfo.go. Paths of discovery, OpenAPI and health are not resource
paths.
"""

from dataclasses import dataclass

from localkube.apiserver.errors import method_not_allowed, no_such_resource, not_found
from localkube.apiserver.registry import Registry
from localkube.apiserver.resource_strategy import builtin
from localkube.apiserver.resources import Resource
from localkube.apiserver.unserved import refusal

_NS_SUBRESOURCES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names. `name` is empty for a collection.

    `namespace` is None for all namespaces and cluster scope.
    """

    res: Resource
    namespace: str | None
    name: str
    subresource: str


def resolve(registry: Registry, path: str) -> Target | None:
    """Return what a path names, None if it is not a resource path.

    Raises ApiError 404 when the resource is not served.
    """
    match path.strip("/").split("/"):
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return None
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) > 2 and not (rest[2] in _NS_SUBRESOURCES and len(rest) == 3):  # noqa: PLR2004
        _, namespace, *rest = rest
    plural, name, subresource = (*rest, "", "")[:3]
    res = registry.find(group, version, plural)
    if res is None:
        raise refusal(group, plural, name, subresource) or no_such_resource()
    if subresource and subresource not in res.subresources:
        unserved = no_such_resource() if builtin(res) else not_found(res, name)
        raise refusal(group, plural, name, subresource) or unserved
    if len(rest) > 3 or (namespace is not None and not res.namespaced):  # noqa: PLR2004
        raise no_such_resource()
    if name and res.namespaced and namespace is None:
        raise no_such_resource()
    return Target(res, namespace, name, subresource)


_VERBS = {  # (method, whether a name is given) -> verb
    ("GET", False): "list",
    ("POST", False): "create",
    ("DELETE", False): "deletecollection",
    ("GET", True): "get",
    ("PUT", True): "update",
    ("PATCH", True): "patch",
    ("DELETE", True): "delete",
}
_SUBRESOURCE_VERBS = {
    ("status", "GET"): "get",
    ("status", "PUT"): "update",
    ("status", "PATCH"): "patch",
    ("log", "GET"): "log",
    ("binding", "POST"): "bind",
    ("eviction", "POST"): "evict",
    ("finalize", "PUT"): "update",
}


def verb(method: str, target: Target) -> str:
    """Return the verb of a method on a target; raises ApiError 405 when the resource does not support it."""
    if target.subresource:
        name = _SUBRESOURCE_VERBS.get((target.subresource, method))
        offered = name is not None
    else:
        name = _VERBS.get((method, bool(target.name)))
        offered = name in target.res.verbs
    if name is None or not offered or _lacks_namespace(name, target):
        raise method_not_allowed(target.res)
    return name


def _lacks_namespace(name: str, target: Target) -> bool:
    return name == "create" and target.res.namespaced and target.namespace is None
