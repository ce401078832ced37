"""The rights of each ServiceAccount of the manifests, and why: one table for every test of RBAC.

`tests/contract/test_rights.py` compares it with the Roles and with the calls in the code,
`tests/cluster/test_rights.py` with a real API server; `tests/audit` checks which right allowed a request and
which was never used.
"""

from collections.abc import Mapping
from typing import NamedTuple

SYSTEM = "flexinfer-system"
MODELS, CORE, BATCH, COORDINATION = "ai.flexinfer", "", "batch", "coordination.k8s.io"
RESOURCE, STORAGE = "resource.k8s.io", "storage.k8s.io"


class Right(NamedTuple):
    """Some verbs on a resource: in all namespaces, in one namespace, or on some names in it.

    `seldom` says when verbs are used that a usual run does not need; empty where the tests use every verb.
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
_STATUS_AND_EVENTS = (Right(MODELS, "models/status", ("patch",)), Right(CORE, "events", ("create",)))


def _controller(name: str, *models: str) -> tuple[Right, ...]:
    """Return the rights of every controller: read Models, write status and Events, hold its own Lease."""
    return (
        Right(MODELS, "models", ("get", *models)),
        *_STATUS_AND_EVENTS,
        Right(COORDINATION, "leases", ("create",), SYSTEM, seldom="at the first start of the component"),
        Right(COORDINATION, "leases", ("get", "update"), SYSTEM, (f"flexinfer-{name}",)),
    )


RIGHTS: Mapping[str, tuple[Right, ...]] = {
    "watcher": (
        *_controller("watcher", "list", "watch"),
        Right(CORE, "pods", ("list", "watch")),
        Right(CORE, "persistentvolumeclaims", ("list", "watch")),
        Right(CORE, "nodes", ("list", "watch")),
        Right(BATCH, "jobs", ("list", "watch")),
        Right(MODELS, "sharedgroups", ("list", "watch")),
        Right(MODELS, "gpuleases", ("list", "watch")),
        Right(RESOURCE, "resourceslices", ("list", "watch")),
        Right(RESOURCE, "resourceclaims", ("list", "watch")),
    ),
    "agent": (Right(CORE, "nodes", ("patch",), seldom="where there are devices"),),
    "placer": _controller("placer"),
    "prefetcher": (
        *_controller("prefetcher"),
        Right(BATCH, "jobs", ("get", "create", "delete")),
        Right(CORE, "events", ("list",), seldom="while a PVC stays Pending"),
        Right(STORAGE, "storageclasses", ("get", "list"), seldom="get: where spec.cache.storageClass is set; list: where spec.cache.strategy is Memory"),
        Right(CORE, "persistentvolumeclaims", ("get", "list", "create", "patch", "delete"), seldom="patch: spec.cache.reclaimPolicy, growth; delete: spec.cache.reclaimPolicy"),
        _OWNERS,
    ),
    "launcher": (
        *_controller("launcher", "patch"),
        Right(CORE, "pods", ("get", "list", "create", "patch", "delete")),
        Right(CORE, "services", ("get", "list", "create", "patch", "delete"), seldom="delete: a Service left by a previous Model of the same name"),
        Right(MODELS, "sharedgroups", ("get",)),
        Right(RESOURCE, "resourceclaims", ("get", "create"), seldom="where a DRA driver offers the GPUs; get: a claim that a predecessor created"),
        _OWNERS,
    ),
    "reaper": _controller("reaper"),
    "arbiter": (
        *_controller("arbiter"),
        Right(MODELS, "sharedgroups", ("get", "list", "create", "patch"), seldom="patch: a SharedGroup without its finalizer, or one that is deleted"),
        Right(MODELS, "sharedgroups/status", ("update",)),
        Right(MODELS, "gpuleases", ("get", "list"), seldom="get: before each effect on a lease"),
        Right(MODELS, "gpuleases/status", ("update",), seldom="where a lease is taken"),
        Right(CORE, "pods", ("list",)),
    ),
    "proxy": (Right(MODELS, "models", ("get",)),),
    "credentials": (
        Right(CORE, "secrets", ("create",), SYSTEM),
        Right(CORE, "secrets", ("get",), SYSTEM, ("flexinfer-nats-authority",)),
    ),
}  # fmt: skip


def account(service: str) -> str:
    """Return the user name of a component's ServiceAccount."""
    return f"system:serviceaccount:{SYSTEM}:flexinfer-{service}"


def allowing(service: str, verb: str, group: str, resource: str, namespace: str, name: str) -> Right | None:
    """Return the right that allows a request, or None; an empty namespace means all namespaces."""
    for right in RIGHTS[service]:
        same = (right.group, right.resource) == (group, resource) and verb in right.verbs
        if same and right.namespace in ("", namespace) and (not right.names or name in right.names):
            return right
    return None
