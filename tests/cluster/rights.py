"""The rights: what each ServiceAccount of the manifests may ask of the Kubernetes API, and why. One table, for every test of rights.

`tests/contract/test_rights.py` holds it against the Roles and against the calls in the code, `test_rights.py` beside it against a real API
server; an audit of a whole run may ask it which right allowed a request, and which was never used.
"""

from collections.abc import Mapping
from typing import NamedTuple

SYSTEM = "flexinfer-system"
MODELS, CORE, BATCH, COORDINATION = "ai.flexinfer", "", "batch", "coordination.k8s.io"


class Right(NamedTuple):
    """Some verbs on a resource: everywhere, or in one namespace, or on some names there.

    `seldom` says when verbs are used that no request of a usual run needs; empty where tests use every verb.
    """

    group: str
    resource: str
    verbs: tuple[str, ...]
    namespace: str = ""
    names: tuple[str, ...] = ()
    seldom: str = ""


_OWNERS = Right(
    MODELS, "models/finalizers", ("update",),
    seldom="where the admission plugin OwnerReferencesPermissionEnforcement runs; no request of ours names it",
)  # fmt: skip
_SAYS = (Right(MODELS, "models/status", ("patch",)), Right(CORE, "events", ("create",)))


def _reactor(name: str, *models: str) -> tuple[Right, ...]:
    """Return what every deciding service may: read Models, write its verdict and an Event, hold its own Lease."""
    return (
        Right(MODELS, "models", ("get", *models)),
        *_SAYS,
        Right(
            COORDINATION, "leases", ("create",), SYSTEM, seldom="the very first time that the service runs"
        ),
        Right(COORDINATION, "leases", ("get", "update"), SYSTEM, (f"flexinfer-{name}",)),
    )


RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "watcher": (
        *_reactor("watcher", "list", "watch"),
        Right(CORE, "pods", ("list", "watch")),
        Right(CORE, "persistentvolumeclaims", ("list", "watch")),
        Right(CORE, "nodes", ("list", "watch")),
        Right(BATCH, "jobs", ("list", "watch")),
        Right(COORDINATION, "leases", ("list", "watch")),
    ),
    "agent": (Right(CORE, "nodes", ("patch",), seldom="where there are devices"),),
    "placer": _reactor("placer"),
    "prefetcher": (
        *_reactor("prefetcher"),
        Right(BATCH, "jobs", ("get", "create", "delete")),
        Right(CORE, "persistentvolumeclaims", ("get", "create")),
        _OWNERS,
    ),
    "launcher": (
        *_reactor("launcher", "patch"),
        Right(CORE, "pods", ("get", "list", "create", "patch", "delete")),
        Right(CORE, "services", ("get", "create", "patch", "delete"), seldom="delete: what a former Model of the name left"),
        Right(COORDINATION, "leases", ("get",)),
        _OWNERS,
    ),
    "reaper": _reactor("reaper"),
    "arbiter": (*_reactor("arbiter"), Right(COORDINATION, "leases", ("get", "create", "update"))),
    "proxy": (Right(MODELS, "models", ("get",)),),
    "credentials": (
        Right(CORE, "secrets", ("create",), SYSTEM),
        Right(CORE, "secrets", ("get",), SYSTEM, ("flexinfer-nats-authority",)),
    ),
}  # fmt: skip


def account(service: str) -> str:
    """Return the user name that a service's ServiceAccount has at the API server."""
    return f"system:serviceaccount:{SYSTEM}:flexinfer-{service}"


def allowing(service: str, verb: str, group: str, resource: str, namespace: str, name: str) -> Right | None:
    """Return the right that allows a request, None when none does; an empty namespace asks for all of them."""
    for right in RIGHTS[service]:
        same = (right.group, right.resource) == (group, resource) and verb in right.verbs
        if same and right.namespace in ("", namespace) and (not right.names or name in right.names):
            return right
    return None
