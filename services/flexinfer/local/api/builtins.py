"""The built-in kinds that the local API offers, and what Kubernetes asks of them that a schema cannot say."""

import base64
import copy
from collections.abc import Iterable
from typing import Any, Final

from flexinfer.local.api import objects, workloads
from flexinfer.local.api.checking import INVALID
from flexinfer.local.api.definitions import Definition, Judge, define, definitions_of
from flexinfer.local.api.errors import ApiError, Cause
from flexinfer.local.api.resources import VERBS, Object, Resource

_STATUS: Final = frozenset({"status"})
_FORBIDDEN: Final = "FieldValueForbidden"
_POD_FREE: Final = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
_POD_UPDATES: Final = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_JOB_LABELS: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
_JOB_NAMES: Final = ("batch.kubernetes.io/job-name", "job-name")


def frozen(*paths: str) -> Judge:
    """Return a judge that refuses a change of what lies at any of the paths."""
    split = [(path, path.split(".")) for path in paths]

    def judge(new: Object, old: Object | None) -> Iterable[Cause]:
        for path, names in split if old is not None else ():
            if _at(new, names) != _at(old, names):
                yield Cause(INVALID, "Invalid value: field is immutable", path)

    return judge


def _at(obj: Any, names: Iterable[str]) -> Any:
    for name in names:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def complete_pod(pod: Object, old: Object | None) -> Object:
    """Fill in what a server computes for a new Pod: how its images are pulled."""
    if old is not None:
        return pod
    return pod | {"spec": _with_pull_policies(pod.get("spec", {}))}


def _with_pull_policies(spec: Any) -> Any:
    if not isinstance(spec, dict):
        return spec
    lists = {
        name: [_with_pull_policy(one) for one in spec[name]]
        for name in ("containers", "initContainers")
        if isinstance(spec.get(name), list)
    }
    return spec | lists


def _with_pull_policy(container: Any) -> Any:
    if not isinstance(container, dict) or "imagePullPolicy" in container:
        return container
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    return container | {"imagePullPolicy": "Always" if latest else "IfNotPresent"}


def judge_pod(new: Object, old: Object | None) -> Iterable[Cause]:
    """Refuse what may not change in a Pod; a node is given once, a gate only goes."""
    spec = new["spec"]
    if old is None or spec is old["spec"]:
        return
    was = old["spec"]
    gates = {gate["name"] for gate in was.get("schedulingGates", ())}
    added = [gate["name"] for gate in spec.get("schedulingGates", ()) if gate["name"] not in gates]
    if added:
        message = f"Forbidden: only deletion is allowed, but found new scheduling gate '{added[0]}'"
        yield Cause(_FORBIDDEN, message, "spec.schedulingGates")
    if _core(spec, gated=bool(gates), bound=bool(was.get("nodeName"))) != _core(
        was, gated=bool(gates), bound=bool(was.get("nodeName"))
    ):
        yield Cause(_FORBIDDEN, _POD_UPDATES, "spec")


def _core(spec: Object, *, gated: bool, bound: bool) -> Object:
    """Return of a Pod's spec what may not change; while it is gated it may still be told where to go."""
    free = {*_POD_FREE, "schedulingGates"}
    free |= {"nodeSelector", "affinity"} if gated else set()
    free |= set() if bound else {"nodeName"}
    core = {key: value for key, value in spec.items() if key not in free}
    for name in ("containers", "initContainers"):
        core[name] = [one | {"image": ""} for one in spec.get(name, ())]
    return core


def complete_job(job: Object, old: Object | None) -> Object:
    """Give a new Job the selector and the labels by which its Pods are known."""
    uid, name = job["metadata"].get("uid"), job["metadata"].get("name")
    spec = job.get("spec")
    if old is not None or not uid or not isinstance(spec, dict) or spec.get("manualSelector"):
        return job
    template = copy.deepcopy(spec.get("template", {}))
    if not isinstance(template, dict):
        return job
    labels = dict.fromkeys(_JOB_LABELS, uid) | dict.fromkeys(_JOB_NAMES, name)
    template.setdefault("metadata", {}).setdefault("labels", {}).update(labels)
    if isinstance(template.get("spec"), dict):
        template["spec"] = _with_pull_policies(template["spec"])
    selector = {"matchLabels": {_JOB_LABELS[0]: uid}}
    return job | {"spec": spec | {"template": template, "selector": selector}}


def complete_secret(secret: Object, _old: Object | None) -> Object:
    """Store as data what was written as text."""
    said = secret.get("stringData")
    if not isinstance(said, dict):
        return secret
    encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in said.items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return rest | {"data": (secret.get("data") or {}) | encoded}


def complete_definition(crd: Object, _old: Object | None) -> Object:
    """Complete a definition's names, and say that it is established: here it is at once."""
    spec = crd.get("spec", {})
    names = spec.get("names", {}) if isinstance(spec, dict) else {}
    if not isinstance(names, dict) or not isinstance(names.get("kind"), str):
        return crd
    full = {"singular": names["kind"].lower(), "listKind": f"{names['kind']}List"} | names
    versions = spec.get("versions")
    stored = (
        [one.get("name") for one in versions if isinstance(one, dict) and one.get("storage")]
        if versions
        else []
    )
    since = crd["metadata"].get("creationTimestamp")
    status: Object = {
        "acceptedNames": full,
        "storedVersions": stored,
        "conditions": [
            _condition("NamesAccepted", "NoConflicts", "no conflicts found", since),
            _condition("Established", "InitialNamesAccepted", "the initial names have been accepted", since),
        ],
    }
    return crd | {"spec": spec | {"names": full}, "status": status}


def _condition(kind: str, reason: str, message: str, since: str | None) -> Object:
    said = {"type": kind, "status": "True", "reason": reason, "message": message}
    return said | ({"lastTransitionTime": since} if since else {})


def judge_definition(new: Object, old: Object | None) -> Iterable[Cause]:
    """Refuse a definition under a wrong name, of a built-in group, or with a schema that does not compile."""
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
    yield from frozen("spec.group", "spec.scope", "spec.names.plural", "spec.names.kind")(new, old)
    if old is None or spec["versions"] is not old["spec"]["versions"]:
        try:
            definitions_of(new)
        except ApiError as error:
            for cause in (error.details or {}).get("causes", ()):
                yield Cause(cause["reason"], cause["message"], cause["field"])


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
        workloads.POD,
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
        judge=judge_pod,
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
        workloads.JOB,
        selectable=("status.successful",),
        normalise=complete_job,
        judge=frozen("spec.template", "spec.selector", "spec.completions", "spec.completionMode"),
    ),
    define(
        _core_v1("services", "Service", "svc", categories=("all",), subresources=_STATUS),
        objects.SERVICE,
        selectable=("spec.clusterIP", "spec.type"),
        name_style="service",
    ),
    define(_core_v1("configmaps", "ConfigMap", "cm"), objects.CONFIG_MAP),
    define(_core_v1("secrets", "Secret"), objects.SECRET, selectable=("type",), normalise=complete_secret),
    define(
        _core_v1("persistentvolumeclaims", "PersistentVolumeClaim", "pvc", subresources=_STATUS),
        objects.CLAIM,
        judge=frozen("spec.accessModes", "spec.volumeMode", "spec.selector"),
    ),
    define(
        _core_v1("persistentvolumes", "PersistentVolume", "pv", namespaced=False, subresources=_STATUS),
        objects.VOLUME,
    ),
    define(
        _core_v1("nodes", "Node", "no", namespaced=False, subresources=_STATUS),
        objects.NODE,
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
        objects.NAMESPACE,
        selectable=("status.phase",),
        name_style="label",
    ),
    define(
        _core_v1("events", "Event", "ev"),
        objects.EVENT,
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
        objects.LEASE,
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
        objects.STORAGE_CLASS,
        judge=frozen("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"),
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
        objects.DEFINITION,
        normalise=complete_definition,
        judge=judge_definition,
    ),
)
