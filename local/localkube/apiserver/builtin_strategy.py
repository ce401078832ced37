"""Defaulting, validation and admission of built-in kinds, as far as a schema cannot express them.

Like SetDefaults_* of pkg/apis, validation.ValidatePodUpdate and the default admission plugins. A function
that changes nothing returns its argument itself, so that an unchanged write is recognised by identity.
"""

import base64
from collections.abc import Callable, Iterable
from typing import Any, Final

from localkube.apiserver.errors import Cause
from localkube.apiserver.pod_resources import resource_causes
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_validation import INVALID

_FORBIDDEN: Final = "FieldValueForbidden"
_MUTABLE_POD_FIELDS: Final = ("activeDeadlineSeconds", "tolerations")
_CONTAINERS: Final = "Forbidden: pod updates may not add or remove containers"
_POD_UPDATES: Final = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_DEFAULT_TOLERATIONS: Final[tuple[Object, ...]] = tuple(
    {
        "key": f"node.kubernetes.io/{why}",
        "operator": "Exists",
        "effect": "NoExecute",
        "tolerationSeconds": 300,
    }
    for why in ("not-ready", "unreachable")
)
_JOB_LABELS: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
_JOB_NAMES: Final = ("batch.kubernetes.io/job-name", "job-name")


def immutable(*paths: str) -> Callable[[Object, Object | None], Iterable[Cause]]:
    """Return a validation that refuses updates of the fields at the given paths, written with dots."""
    split = [(path, path.split(".")) for path in paths]

    def validate(new: Object, old: Object | None) -> Iterable[Cause]:
        for path, names in split if old is not None else ():
            if _at(new, names) != _at(old, names):
                yield Cause(INVALID, "Invalid value: field is immutable", path)

    return validate


def validate_claim(new: Object, old: Object | None) -> Iterable[Cause]:
    """Yield an error if a PVC's spec changes: its class may be set once, when it was created without one."""
    fields = ["spec.accessModes", "spec.volumeMode", "spec.selector"]
    if (old or {}).get("spec", {}).get("storageClassName") is not None:
        fields.append("spec.storageClassName")
    yield from immutable(*fields)(new, old)


def _at(obj: Any, names: Iterable[str]) -> Any:
    for name in names:
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def validate_event(new: Object, _old: Object | None) -> Iterable[Cause]:
    """Yield an error if an Event is in another namespace than the object that it is about."""
    namespace = new["involvedObject"].get("namespace", "")
    if namespace and namespace != new["metadata"]["namespace"]:
        message = f'Invalid value: "{namespace}": does not match event.namespace'
        yield Cause(INVALID, message, "involvedObject.namespace")


def validate_pod(new: Object, old: Object | None) -> Iterable[Cause]:
    """Yield what is wrong with the resources of a new Pod, or the forbidden changes of another one.

    A node is assigned once, scheduling gates are only removed.
    """
    spec = new["spec"]
    if old is None:
        yield from resource_causes(spec)
        return
    if spec is old["spec"]:
        return
    previous = old["spec"]
    gates = {gate["name"] for gate in previous.get("schedulingGates", ())}
    new_gates = [gate["name"] for gate in spec.get("schedulingGates", ()) if gate["name"] not in gates]
    if new_gates:
        message = f"Forbidden: only deletion is allowed, but found new scheduling gate '{new_gates[0]}'"
        yield Cause(_FORBIDDEN, message, "spec.schedulingGates")
    if len(spec["containers"]) != len(previous["containers"]):
        yield Cause(_FORBIDDEN, _CONTAINERS, "spec.containers")
        return
    gated, bound = bool(gates), bool(previous.get("nodeName"))
    if _immutable_part(spec, gated=gated, bound=bound) != _immutable_part(previous, gated=gated, bound=bound):
        yield Cause(_FORBIDDEN, _POD_UPDATES, "spec")


def _immutable_part(spec: Object, *, gated: bool, bound: bool) -> Object:
    """Return the fields of a Pod's spec that may not change; the node selector of a gated Pod may."""
    mutable = {*_MUTABLE_POD_FIELDS, "schedulingGates"}
    mutable |= {"nodeSelector", "affinity"} if gated else set()
    mutable |= set() if bound else {"nodeName"}
    fields = {key: value for key, value in spec.items() if key not in mutable}
    for name in ("containers", "initContainers"):
        fields[name] = [one | {"image": ""} for one in spec.get(name, ())]
    return fields


def default_pod(pod: Object, old: Object | None) -> Object:
    """Return a Pod with defaults for pull policies, requests (the limits) and `enableServiceLinks`."""
    spec = pod.get("spec")
    if old is not None and spec is old.get("spec"):
        return pod
    result = _without_gates(_with_requests(_with_pull_policies(spec)))
    if isinstance(result, dict) and "enableServiceLinks" not in result:
        result = result | {"enableServiceLinks": True}
    return pod if result is spec else pod | {"spec": result}


def admit_pod(pod: Object) -> Object:
    """Return a new Pod with what the default admission plugins add.

    ServiceAccount (its name; no token is mounted), Priority, and DefaultTolerationSeconds: 300 s on a node
    that is not ready or unreachable.
    """
    spec = pod["spec"]
    name = spec.get("serviceAccountName") or "default"
    account = {"serviceAccountName": name, "serviceAccount": name}
    tolerations = [
        *spec.get("tolerations", ()),
        *(one for one in _DEFAULT_TOLERATIONS if not _tolerates(spec, one["key"])),
    ]
    priority = {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
    return pod | {"spec": priority | account | spec | {"tolerations": tolerations}}


def _tolerates(spec: Object, key: str) -> bool:
    """Return whether a Pod tolerates the NoExecute taint with this key already."""
    return any(
        one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "")
        for one in spec.get("tolerations", ())
    )


def _without_gates(spec: Any) -> Any:
    """Return a Pod's spec without an empty list of scheduling gates: omitempty in Kubernetes."""
    if not isinstance(spec, dict) or spec.get("schedulingGates") != []:
        return spec
    return {key: value for key, value in spec.items() if key != "schedulingGates"}


def _each_container(spec: Any, change: Callable[[Any], Any]) -> Any:
    """Return a Pod's spec with a change made to every container; the same object if nothing changes."""
    if not isinstance(spec, dict):
        return spec
    lists = {
        name: spec[name] for name in ("containers", "initContainers") if isinstance(spec.get(name), list)
    }
    new_lists = {name: [change(one) for one in containers] for name, containers in lists.items()}
    return spec if new_lists == lists else spec | new_lists


def _with_requests(spec: Any) -> Any:
    """Return a Pod's spec in which missing requests of a container are its limits."""
    return _each_container(spec, _with_request)


def _with_request(container: Any) -> Any:
    resources = container.get("resources") if isinstance(container, dict) else None
    if not isinstance(resources, dict):
        return container
    limits, requests = resources.get("limits"), resources.get("requests") or {}
    if not isinstance(limits, dict) or not isinstance(requests, dict):
        return container
    all_requests = limits | requests
    if all_requests == resources.get("requests"):
        return container
    return container | {"resources": resources | {"requests": all_requests}}


def default_job(job: Object, old: Object | None) -> Object:
    """Return a Job with pull policies, and, when it is created, the generated selector and Pod labels."""
    spec = job.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(template, dict) or spec is (old or {}).get("spec"):
        return job
    pod_spec = _with_pull_policies(template.get("spec"))
    template = template if pod_spec is template.get("spec") else template | {"spec": pod_spec}
    uid, name = job["metadata"].get("uid"), job["metadata"].get("name")
    if old is None and uid and not spec.get("manualSelector"):
        metadata = template.get("metadata") or {}
        labels = dict.fromkeys(_JOB_LABELS, uid) | dict.fromkeys(_JOB_NAMES, name)
        template = template | {"metadata": metadata | {"labels": (metadata.get("labels") or {}) | labels}}
        spec = spec | {"selector": {"matchLabels": {_JOB_LABELS[0]: uid}}}
    if template is spec.get("template"):
        return job
    return _with_labels(job | {"spec": spec | {"template": template}}, template)


def _with_labels(job: Object, template: Object) -> Object:
    """Return a Job with labels; without any it gets those of its Pod template (SetDefaults_Job)."""
    metadata, labels = job["metadata"], (template.get("metadata") or {}).get("labels")
    return job if metadata.get("labels") or not labels else job | {"metadata": metadata | {"labels": labels}}


def _with_pull_policies(spec: Any) -> Any:
    """Return a Pod's spec with an imagePullPolicy for each container."""
    return _each_container(spec, _with_pull_policy)


def _with_pull_policy(container: Any) -> Any:
    if not isinstance(container, dict) or "imagePullPolicy" in container:
        return container
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    return container | {"imagePullPolicy": "Always" if latest else "IfNotPresent"}


def default_secret(secret: Object, _old: Object | None) -> Object:
    """Return a Secret with `stringData` moved to `data`, base64-encoded."""
    texts = secret.get("stringData")
    if not isinstance(texts, dict):
        return secret
    data = {key: base64.b64encode(str(value).encode()).decode() for key, value in texts.items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return rest | {"data": (secret.get("data") or {}) | data}
