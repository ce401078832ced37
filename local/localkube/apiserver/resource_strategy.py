"""What Kubernetes does by itself when objects of a certain kind are created, changed or deleted, as a table by resource.

Defaults, types and bounds are the registry's; here is what depends on the life of an object: its first
status, its generations, how it may be deleted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from localkube.apiserver.builtin_strategy import admit_pod
from localkube.apiserver.errors import Cause, forbidden
from localkube.apiserver.pod_strategy import first_status
from localkube.apiserver.requests import Propagation
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.structured_merge import same

CLEANUP_FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"
_PROTECTED_NAMESPACES: Final = frozenset({"default", "kube-system", "kube-public"})


def _as_it_is(obj: Object, _: str) -> Object:
    return obj


def _untouched(obj: Object) -> Object:
    return obj


def _anything(_new: Object, _old: Object) -> list[Cause]:
    return []


def _nobody(_: Object) -> None:
    return


@dataclass(frozen=True, slots=True)
class Strategy:
    """The rules of one resource."""

    generations: bool = True
    unconditional: bool = False  # whether a PUT may leave out resourceVersion
    graceful: bool = False  # whether deletion waits for a grace period
    creates_status: bool = False  # whether a creator's status is kept
    propagation: Propagation = "Background"
    begin: Callable[[Object, str], Object] = _as_it_is
    admitted: Callable[[Object], Object] = _untouched  # what admission adds to a new object; nobody owns it
    frozen: Callable[[Object, Object], list[Cause]] = _anything
    check_delete: Callable[[Object], None] = _nobody


def builtin(res: Resource) -> bool:
    """Say whether Kubernetes itself defines the resource."""
    return "." not in res.group or res.group.endswith(".k8s.io")


def strategy(res: Resource) -> Strategy:
    """Return the rules of a resource."""
    found = _TABLE.get((res.group, res.plural))
    if found is None:
        found = _PLAIN if builtin(res) else _CUSTOM
    return found


def _begin_pod(pod: Object, time: str) -> Object:
    return {**pod, "status": first_status(pod, time)}


def _begin_namespace(namespace: Object, _: str) -> Object:
    meta = namespace["metadata"]
    labels = {**(meta.get("labels") or {}), "kubernetes.io/metadata.name": meta["name"]}
    return {
        **namespace,
        "metadata": {**meta, "labels": labels},
        "spec": {"finalizers": ["kubernetes"]},
        "status": {"phase": "Active"},
    }


def _begin_pending(obj: Object, _: str) -> Object:
    return {**obj, "status": {"phase": "Pending"}}


def _begin_job(job: Object, _: str) -> Object:
    return {**job, "status": {}}


def _begin_service(service: Object, _: str) -> Object:
    return {**service, "status": {"loadBalancer": {}}}


def _begin_definition(crd: Object, _: str) -> Object:
    """Keep it until its objects are gone."""
    meta = crd["metadata"]
    finalizers = [
        *(each for each in meta.get("finalizers") or [] if each != CLEANUP_FINALIZER),
        CLEANUP_FINALIZER,
    ]
    return {**crd, "metadata": {**meta, "finalizers": finalizers}}


def _sealed(new: Object, old: Object) -> list[Cause]:
    """Let nothing change in a ConfigMap or Secret that says it is immutable."""
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
    ("", "pods"): Strategy(unconditional=True, graceful=True, begin=_begin_pod, admitted=admit_pod),
    ("", "namespaces"): Strategy(
        generations=False,
        begin=_begin_namespace,
        check_delete=_check_namespace_delete(_NAMESPACES),
    ),
    ("", "nodes"): Strategy(generations=False, unconditional=True, creates_status=True),
    ("", "secrets"): Strategy(generations=False, unconditional=True, frozen=_sealed),
    ("", "configmaps"): Strategy(generations=False, unconditional=True, frozen=_sealed),
    ("", "services"): Strategy(generations=False, unconditional=True, begin=_begin_service),
    ("", "persistentvolumeclaims"): Strategy(generations=False, unconditional=True, begin=_begin_pending),
    ("", "persistentvolumes"): Strategy(generations=False, unconditional=True, begin=_begin_pending),
    ("batch", "jobs"): Strategy(unconditional=True, propagation="Orphan", begin=_begin_job),
    ("coordination.k8s.io", "leases"): Strategy(generations=False),
    ("apiextensions.k8s.io", "customresourcedefinitions"): Strategy(begin=_begin_definition),
}
