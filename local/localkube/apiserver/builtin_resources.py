"""The built-in kinds that the local API offers, and what Kubernetes asks of them that a schema cannot say."""

from collections.abc import Iterable
from typing import Any, Final

from localkube.apiserver import builtin_schemas, workload_schemas
from localkube.apiserver.builtin_strategy import (
    complete_job,
    complete_pod,
    complete_secret,
    frozen,
    judge_event,
    judge_pod,
)
from localkube.apiserver.errors import ApiError, Cause
from localkube.apiserver.registry import Definition, Registry, define, definitions_of
from localkube.apiserver.resources import VERBS, Object, Resource
from localkube.apiserver.schema_validation import INVALID

_STATUS: Final = frozenset({"status"})


def complete_definition(crd: Object, _old: Object | None) -> Object:
    """Complete a definition's names."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not isinstance(names.get("kind"), str):
        return crd
    full = {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"} | names
    return crd if full == names else crd | {"spec": spec | {"names": full}}


def judge_definition(new: Object, old: Object | None) -> Iterable[Cause]:
    """Refuse a definition under a wrong name or group, or with a schema that does not compile."""
    spec, name = new["spec"], new["metadata"].get("name", "")
    if name != f"{spec['names']['plural']}.{spec['group']}":
        message = f'Invalid value: "{name}": must be spec.names.plural+"."+spec.group'
        yield Cause(INVALID, message, "metadata.name")
    if "." not in spec["group"]:
        message = f'Invalid value: "{spec["group"]}": should be a domain with at least one dot'
        yield Cause(INVALID, message, "spec.group")
    if sum(bool(version["storage"]) for version in spec["versions"]) != 1:
        yield Cause(
            INVALID, "Invalid value: must have exactly one version marked as storage version", "spec.versions"
        )
    versions = {version["name"] for version in spec["versions"]}
    for place, former in enumerate((new.get("status") or {}).get("storedVersions") or ()):
        if former not in versions:
            yield Cause(INVALID, _stored(former), f"status.storedVersions[{place}]")
    if old is None or spec["versions"] is not old["spec"]["versions"]:
        try:
            definitions_of(new)
        except ApiError as error:
            for cause in (error.details or {}).get("causes", ()):
                yield Cause(cause["reason"], cause["message"], cause["field"])


def _stored(version: str) -> str:
    """Say why a version may not go yet."""
    return (
        f'Invalid value: "{version}": missing from spec.versions; {version} was previously a storage version, and must remain in '
        f"spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from "
        "status.storedVersions"
    )


def _core_v1(plural: str, kind: str, short: str = "", **more: Any) -> Resource:
    """Return a resource of the core group; short names are written with spaces between."""
    return Resource(
        "",
        "v1",
        plural,
        kind,
        namespaced=more.pop("namespaced", True),
        singular=kind.lower(),
        short_names=tuple(short.split()),
        **more,
    )


PODS: Final = _core_v1(
    "pods", "Pod", "po", categories=("all",), subresources=frozenset({"status", "log", "binding"})
)
BUILTINS: Final[tuple[Definition, ...]] = (
    define(
        PODS,
        workload_schemas.POD,
        selectable=(
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ),
        normalise=complete_pod,
        validate=judge_pod,
    ),
    define(
        Resource(
            "batch",
            "v1",
            "jobs",
            "Job",
            namespaced=True,
            singular="job",
            categories=("all",),
            subresources=_STATUS,
        ),
        workload_schemas.JOB,
        selectable=("status.successful",),
        normalise=complete_job,
        validate=frozen("spec.template", "spec.selector", "spec.completions", "spec.completionMode"),
    ),
    define(
        _core_v1("services", "Service", "svc", categories=("all",), subresources=_STATUS),
        builtin_schemas.SERVICE,
        selectable=("spec.clusterIP", "spec.type"),
        name_style="service",
    ),
    define(_core_v1("configmaps", "ConfigMap", "cm"), builtin_schemas.CONFIG_MAP),
    define(
        _core_v1("secrets", "Secret"), builtin_schemas.SECRET, selectable=("type",), normalise=complete_secret
    ),
    define(
        _core_v1("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", subresources=_STATUS),
        builtin_schemas.CLAIM,
        validate=frozen("spec.accessModes", "spec.volumeMode", "spec.selector", "spec.storageClassName"),
    ),
    define(
        _core_v1("persistentvolumes", "PersistentVolume", "pv", namespaced=False, subresources=_STATUS),
        builtin_schemas.VOLUME,
    ),
    define(
        _core_v1("nodes", "Node", "no", namespaced=False, subresources=_STATUS),
        builtin_schemas.NODE,
        selectable=("spec.unschedulable",),
    ),
    define(
        _core_v1(
            "namespaces",
            "Namespace",
            "ns",
            namespaced=False,
            subresources=frozenset({"status", "finalize"}),
            verbs=tuple(verb for verb in VERBS if verb != "deletecollection"),
        ),
        builtin_schemas.NAMESPACE,
        selectable=("status.phase",),
        name_style="label",
    ),
    define(
        _core_v1("events", "Event", "ev"),
        builtin_schemas.EVENT,
        validate=judge_event,
        selectable=(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
    ),
    define(
        Resource("coordination.k8s.io", "v1", "leases", "Lease", namespaced=True, singular="lease"),
        builtin_schemas.LEASE,
    ),
    define(
        Resource(
            "storage.k8s.io",
            "v1",
            "storageclasses",
            "StorageClass",
            namespaced=False,
            singular="storageclass",
            short_names=("sc",),
        ),
        builtin_schemas.STORAGE_CLASS,
        validate=frozen("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
    ),
    define(
        Resource(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            namespaced=False,
            singular="customresourcedefinition",
            short_names=("crd", "crds"),
            categories=("api-extensions",),
            subresources=_STATUS,
        ),
        builtin_schemas.DEFINITION,
        normalise=complete_definition,
        validate=judge_definition,
    ),
)


def builtin_registry() -> Registry:
    """Return a registry of the built-in kinds, to which CustomResourceDefinitions add theirs."""
    return Registry(BUILTINS)
