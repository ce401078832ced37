"""The built-in resources: their schema, selectable fields, defaulting and validation, in one table.

Like the REST storage providers of kube-apiserver (pkg/registry). Kinds that no component here uses
(Deployments, Endpoints, RBAC, ...) are not served. What depends on the lifecycle of an object (first status,
generation, grace period) is in `resource_strategy`.
"""

from collections.abc import Iterable
from typing import Any, Final

from localkube.apiserver import builtin_schemas, workload_schemas
from localkube.apiserver.builtin_strategy import (
    default_job,
    default_pod,
    default_secret,
    immutable,
    validate_claim,
    validate_event,
    validate_pod,
)
from localkube.apiserver.definition import Definition, define, definitions_of
from localkube.apiserver.errors import ApiError, Cause
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import VERBS, Object, Resource
from localkube.apiserver.schema_validation import INVALID

_STATUS: Final = frozenset({"status"})


def default_definition(crd: Object, _old: Object | None) -> Object:
    """Return a CustomResourceDefinition with `singular` and `listKind`; a malformed one as it is."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict) or not isinstance(names.get("kind"), str):
        return crd
    full_names = {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"} | names
    return crd if full_names == names else crd | {"spec": spec | {"names": full_names}}


def validate_definition(new: Object, old: Object | None) -> Iterable[Cause]:
    """Yield what is wrong with the name, group, versions and schemas of a CustomResourceDefinition."""
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
    for index, stored_version in enumerate((new.get("status") or {}).get("storedVersions") or ()):
        if stored_version not in versions:
            yield Cause(INVALID, _missing_stored_version(stored_version), f"status.storedVersions[{index}]")
    if old is None or spec["versions"] is not old["spec"]["versions"]:
        try:
            definitions_of(new)
        except ApiError as error:
            for cause in (error.details or {}).get("causes", ()):
                yield Cause(cause["reason"], cause["message"], cause["field"])


def _missing_stored_version(version: str) -> str:
    return (
        f'Invalid value: "{version}": missing from spec.versions; {version} was previously a storage version, and must remain in '
        f"spec.versions until a storage migration ensures no data remains persisted in {version} and removes {version} from "
        "status.storedVersions"
    )


def _core_v1(plural: str, kind: str, short: str = "", **more: Any) -> Resource:
    """Return a resource of the core group; short names are separated by spaces."""
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
    "pods", "Pod", "po", categories=("all",), subresources=frozenset({"status", "log", "binding", "eviction"})
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
        normalise=default_pod,
        validate=validate_pod,
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
        normalise=default_job,
        validate=immutable("spec.template", "spec.selector", "spec.completions", "spec.completionMode"),
    ),
    define(
        _core_v1("services", "Service", "svc", categories=("all",), subresources=_STATUS),
        builtin_schemas.SERVICE,
        selectable=("spec.clusterIP", "spec.type"),
        name_style="service",
    ),
    define(_core_v1("configmaps", "ConfigMap", "cm"), builtin_schemas.CONFIG_MAP),
    define(_core_v1("serviceaccounts", "ServiceAccount", "sa"), builtin_schemas.SERVICE_ACCOUNT),
    define(
        _core_v1("secrets", "Secret"), builtin_schemas.SECRET, selectable=("type",), normalise=default_secret
    ),
    define(
        _core_v1("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", subresources=_STATUS),
        builtin_schemas.PERSISTENT_VOLUME_CLAIM,
        validate=validate_claim,
    ),
    define(
        _core_v1("persistentvolumes", "PersistentVolume", "pv", namespaced=False, subresources=_STATUS),
        builtin_schemas.PERSISTENT_VOLUME,
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
        validate=validate_event,
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
        validate=immutable("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
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
        builtin_schemas.CUSTOM_RESOURCE_DEFINITION,
        normalise=default_definition,
        validate=validate_definition,
    ),
)


def builtin_registry() -> Registry:
    """Return a new registry of the built-in resources, to which CustomResourceDefinitions add theirs."""
    return Registry(BUILTINS)
