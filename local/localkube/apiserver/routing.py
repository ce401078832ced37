"""Routing: which resource, object and subresource a path names."""

from dataclasses import dataclass

from localkube.apiserver.errors import method_not_allowed, no_such_resource
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Resource

_OF_NAMESPACES = frozenset({"status", "finalize"})


@dataclass(frozen=True, slots=True)
class Target:
    """What a request is about. `name` is empty for a collection, `namespace` is None for all namespaces and none."""

    res: Resource
    namespace: str | None
    name: str
    subresource: str


def target(registry: Registry, path: str) -> Target | None:
    """Return what a path names; None when it is not a path of resources; a 404 when nothing offered bears the name."""
    match path.strip("/").split("/"):
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return None
    namespace: str | None = None
    if rest[0] == "namespaces" and len(rest) > 2 and not (rest[2] in _OF_NAMESPACES and len(rest) == 3):  # noqa: PLR2004
        _, namespace, *rest = rest
    plural, name, subresource = (*rest, "", "")[:3]
    res = registry.find(group, version, plural)
    if res is None or len(rest) > 3 or (namespace is not None and not res.namespaced):  # noqa: PLR2004
        raise no_such_resource()
    if subresource and subresource not in res.subresources:
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
    ("finalize", "PUT"): "update",
}


def verb(method: str, aim: Target) -> str:
    """Return what is to be done; a 405 when the resource does not take the method."""
    if aim.subresource:
        found = _SUBRESOURCE_VERBS.get((aim.subresource, method))
        offered = found is not None
    else:
        found = _VERBS.get((method, bool(aim.name)))
        offered = found in aim.res.verbs
    if found is None or not offered or _nowhere(found, aim):
        raise method_not_allowed(aim.res)
    return found


def _nowhere(found: str, aim: Target) -> bool:
    return found == "create" and aim.res.namespaced and aim.namespace is None
