"""The checks: each looks at one thing that a Model needs, and says what is missing and what fixes it. Pure and total."""

from collections.abc import Callable, Iterator, Sequence

import msgspec

from flexinfer.api.groupversion import API_VERSION, GROUP, GROUP_PLURAL, LEASE_PLURAL, PLURAL
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.model import ModelSpec
from flexinfer.api.numbers import counted
from flexinfer.cli.preflight import gpus, pulling
from flexinfer.cli.preflight.objects import Definition, Workload
from flexinfer.cli.preflight.view import MISSING, OK, UNKNOWN, WARNING, Finding, View, unread

Check = Callable[[View], Iterator[Finding]]
DEFINITIONS = tuple(f"{plural}.{GROUP}" for plural in (PLURAL, GROUP_PLURAL, LEASE_PLURAL))
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
_APPLY = "kubectl apply -f crds/ (Helm upgrades no CRD), or start `flexinfer up` again"
_VOLUME = "data-flexinfer-nats-"


def findings(view: View) -> list[Finding]:
    """Return what every check says, in the order in which a Model needs the things."""
    return [finding for check in CHECKS for finding in check(view)]


def _definitions(view: View) -> Iterator[Finding]:
    if view.definitions is None:
        yield unread("crds", "customresourcedefinitions")
        return
    by_name = {one.metadata.name: one for one in view.definitions}
    if missing := [name for name in DEFINITIONS if name not in by_name]:
        yield Finding("crds", MISSING, f"not installed: {', '.join(missing)}", _APPLY)
    elif waiting := [name for name in DEFINITIONS if not _established(by_name[name])]:
        yield Finding(
            "crds", MISSING, f"not established: {', '.join(waiting)}", "kubectl describe crd NAME says why"
        )
    elif older := _older(by_name[DEFINITIONS[0]]):
        yield Finding(
            "crds",
            MISSING,
            f"{DEFINITIONS[0]} is older than this flexinfer: no spec.{', spec.'.join(older)}",
            _APPLY,
        )
    else:
        yield Finding("crds", OK, f"{len(DEFINITIONS)} of {API_VERSION}")


def _established(definition: Definition) -> bool:
    return any(one.type == "Established" and one.status == "True" for one in definition.status.conditions)


def _older(definition: Definition) -> list[str]:
    """Return the fields of a Model's spec that an installed definition does not have."""
    version = next((one for one in definition.spec.versions if f"{GROUP}/{one.name}" == API_VERSION), None)
    raw = version.schema.open_api_v3_schema.properties.get("spec") if version is not None else None
    present = msgspec.json.decode(raw).get("properties", {}) if raw is not None else {}
    return [
        field.encode_name for field in msgspec.structs.fields(ModelSpec) if field.encode_name not in present
    ]


def _rights(view: View) -> Iterator[Finding]:
    if view.rights is None:
        yield Finding("rights", OK, "the local API has no RBAC: a client with its token may do everything")
    elif view.rights:
        message = f"this user may not {', '.join(view.rights)} Models in namespace {view.namespace}"
        yield Finding(
            "rights",
            MISSING,
            message,
            f"bind a role with models.{GROUP} to this user, or use another context",
        )
    else:
        yield Finding("rights", OK, f"this user may write Models in namespace {view.namespace}")


def _components(view: View) -> Iterator[Finding]:
    if view.local:
        yield from _processes(view)
    elif view.workloads is None:
        yield unread("components", "deployments")
    elif not view.workloads:
        remedy = "kubectl apply -k deploy/, or helm install (docs/how-to/install.md)"
        yield Finding(
            "components", MISSING, f"FlexInfer is not installed: no workloads in {SYSTEM_NAMESPACE}", remedy
        )
    elif late := [one for one in view.workloads if one.ready < one.desired]:
        states = ", ".join(_state(view, one) for one in late)
        yield Finding(
            "components",
            MISSING,
            f"not ready: {states}",
            f"kubectl -n {SYSTEM_NAMESPACE} get pods; kubectl -n {SYSTEM_NAMESPACE} describe pod NAME",
        )
    else:
        yield Finding("components", OK, f"{len(view.workloads)} workloads are ready")


def _processes(view: View) -> Iterator[Finding]:
    late = [one for one in view.processes if one.state != "healthy"]
    if late:
        states = ", ".join(
            f"{one.name} is {one.state}{f' ({one.reason})' if one.reason else ''}" for one in late
        )
        yield Finding("components", MISSING, states, "flexinfer services; flexinfer up starts what is down")
    elif view.processes:
        yield Finding("components", OK, f"{len(view.processes)} processes are healthy")
    else:
        yield Finding(
            "components",
            UNKNOWN,
            "this API server runs no components that are known here",
            "flexinfer check --state DIR",
        )


def _state(view: View, workload: Workload) -> str:
    """Return how many Pods of a workload are ready, and what one of the others waits for."""
    name = workload.metadata.name
    waits = next(
        (
            wait
            for pod in view.system_pods
            if pod.metadata.name.startswith(f"{name}-")
            if (wait := pulling.waiting(pod))
        ),
        "",
    )
    return f"{name} {workload.ready}/{workload.desired}{f' ({waits})' if waits else ''}"


def _storage(view: View) -> Iterator[Finding]:
    if view.unwritable:
        message = f"nothing can be written into {view.unwritable}; changes are rejected until there is room"
        yield Finding("storage", MISSING, message, "free space on that disk")
    if view.storage_classes is None:
        yield unread("storage", "storageclasses")
        return
    names = [one.metadata.name for one in view.storage_classes]
    default = [
        one.metadata.name
        for one in view.storage_classes
        if one.metadata.annotations.get(DEFAULT_CLASS) == "true"
    ]
    if default:
        yield Finding("storage", OK, f"the default StorageClass is {', '.join(default)}")
    elif names:
        message = (
            f"no StorageClass is the default (there are {', '.join(names)}): caches and NATS get no volume"
        )
        yield Finding(
            "storage",
            MISSING,
            message,
            f"kubectl annotate sc {names[0]} {DEFAULT_CLASS}=true, or spec.cache.storageClass and nats.storageClassName",
        )
    else:
        yield Finding(
            "storage",
            MISSING,
            "there is no StorageClass: caches and NATS get no volume",
            "install a provisioner; k3s and kind bring local-path",
        )


def _nats(view: View) -> Iterator[Finding]:
    if view.local:
        return
    if view.claims is None:
        yield unread("nats", "persistentvolumeclaims")
        return
    claims = [claim for claim in view.claims if claim.metadata.name.startswith(_VOLUME)]
    unbound = [
        f"{claim.metadata.name} is {claim.status.phase or 'Pending'}"
        for claim in claims
        if claim.status.phase != "Bound"
    ]
    if unbound:
        remedy = f"kubectl -n {SYSTEM_NAMESPACE} describe pvc; the class is chart value nats.storageClassName"
        yield Finding("nats", MISSING, f"the volume of NATS is missing: {', '.join(unbound)}", remedy)
    elif claims:
        yield Finding("nats", OK, f"{counted(len(claims), 'volume')} bound")
    elif view.workloads:
        yield Finding(
            "nats",
            MISSING,
            f"the volume of NATS is missing: no PVC {_VOLUME}0 in {SYSTEM_NAMESPACE}",
            f"kubectl -n {SYSTEM_NAMESPACE} describe statefulset flexinfer-nats",
        )


CHECKS: Sequence[Check] = (
    _definitions,
    _rights,
    _components,
    pulling.images,
    pulling.secrets,
    _storage,
    _nats,
    gpus.runtime_classes,
    gpus.devices,
)


def failed(results: Sequence[Finding]) -> bool:
    """Return whether something that a Model needs is missing."""
    return any(finding.status == MISSING for finding in results)


__all__ = ["CHECKS", "OK", "WARNING", "failed", "findings"]
