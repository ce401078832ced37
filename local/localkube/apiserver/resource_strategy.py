"""The create, update and delete strategy of each resource, as a table.

Like the strategy.go files of kubernetes/pkg/registry and rest.RESTCreateStrategy. Defaults and validation by
schema are in `registry`; this is about the lifecycle of an object: initial status, generation, immutability,
graceful deletion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from localkube.apiserver.builtin_strategy import admit_pod
from localkube.apiserver.errors import Cause, forbidden
from localkube.apiserver.pod_strategy import initial_status
from localkube.apiserver.requests import Propagation
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.structured_merge import same

CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_PROTECTED_NAMESPACES: Final = frozenset({"default", "kube-system", "kube-public"})


def _keep(obj: Object, _: str) -> Object:
    return obj


def _unmodified(obj: Object) -> Object:
    return obj


def _allow_update(_new: Object, _old: Object) -> list[Cause]:
    return []


def _allow_delete(_: Object) -> None:
    return


@dataclass(frozen=True, slots=True)
class Strategy:
    """The strategy of one resource."""

    generations: bool = True
    unconditional: bool = False  # AllowUnconditionalUpdate: a PUT may omit resourceVersion
    graceful: bool = False  # whether deletion has a grace period
    creates_status: bool = False  # whether a create may set status
    propagation: Propagation = "Background"
    deletion_finalizer: str = ""  # what a delete adds, for the controller that deletes the content first
    prepare: Callable[[Object, str], Object] = _keep
    admit: Callable[[Object], Object] = _unmodified  # mutating admission; has no field manager
    check_update: Callable[[Object, Object], list[Cause]] = _allow_update
    check_delete: Callable[[Object], None] = _allow_delete


def builtin(res: Resource) -> bool:
    """Return whether a resource belongs to Kubernetes itself, as opposed to a CustomResourceDefinition."""
    return "." not in res.group or res.group.endswith(".k8s.io")


def strategy(res: Resource) -> Strategy:
    """Return the strategy of a resource."""
    default = _PLAIN if builtin(res) else _CUSTOM
    return _TABLE.get((res.group, res.plural), default)


def _prepare_pod(pod: Object, time: str) -> Object:
    return {**pod, "status": initial_status(pod, time)}


def _prepare_namespace(namespace: Object, _: str) -> Object:
    meta = namespace["metadata"]
    labels = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}
    return {
        **namespace,
        "metadata": {**meta, "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _prepare_pending(obj: Object, _: str) -> Object:
    return {**obj, "status": {"phase": "Pending"}}


def _prepare_job(job: Object, _: str) -> Object:
    return {**job, "status": {}}


def _prepare_service(service: Object, _: str) -> Object:
    return {**service, "status": {"loadBalancer": {}}}


def _check_immutable(new: Object, old: Object) -> list[Cause]:
    """Return the changed fields of a ConfigMap or Secret with `immutable: true`."""
    if not old.get("immutable"):
        return []
    return [
        Cause("FieldValueForbidden", "Forbidden: field is immutable when `immutable` is set", name)
        for name in ("immutable", "data", "binaryData")
        if not same(new.get(name), old.get(name))
    ]


def _check_namespace_delete(res: Resource) -> Callable[[Object], None]:
    def check(namespace: Object) -> None:
        name = namespace["metadata"]["name"]
        if name in _PROTECTED_NAMESPACES:
            raise forbidden(res, name, "this namespace may not be deleted")

    return check


_NAMESPACES: Final = Resource("", "v1", "namespaces", "Namespace", namespaced=False)
_CUSTOM: Final = Strategy()
_PLAIN: Final = Strategy(generations=False, unconditional=True)
_TABLE: Final[Mapping[tuple[str, str], Strategy]] = {
    ("", "pods"): Strategy(unconditional=True, graceful=True, prepare=_prepare_pod, admit=admit_pod),
    ("", "namespaces"): Strategy(
        generations=False,
        prepare=_prepare_namespace,
        check_delete=_check_namespace_delete(_NAMESPACES),
    ),
    ("", "nodes"): Strategy(generations=False, unconditional=True, creates_status=True),
    ("", "secrets"): Strategy(generations=False, unconditional=True, check_update=_check_immutable),
    ("", "configmaps"): Strategy(generations=False, unconditional=True, check_update=_check_immutable),
    ("", "serviceaccounts"): Strategy(generations=False, unconditional=True),
    ("", "services"): Strategy(generations=False, unconditional=True, prepare=_prepare_service),
    ("", "persistentvolumeclaims"): Strategy(generations=False, unconditional=True, prepare=_prepare_pending),
    ("", "persistentvolumes"): Strategy(generations=False, unconditional=True, prepare=_prepare_pending),
    ("batch", "jobs"): Strategy(unconditional=True, propagation="Orphan", prepare=_prepare_job),
    ("coordination.k8s.io", "leases"): Strategy(generations=False),
    ("apiextensions.k8s.io", "customresourcedefinitions"): Strategy(deletion_finalizer=CLEANUP_FINALIZER),
}
