"""What a real API server computes for built-in objects, and what it lets nobody change in them: what no schema can say."""

import base64
from collections.abc import Callable, Iterable
from typing import Any, Final

from localkube.apiserver.errors import Cause
from localkube.apiserver.resources import Object
from localkube.apiserver.schema_validation import INVALID

_FORBIDDEN: Final = "FieldValueForbidden"
_POD_FREE: Final = ("activeDeadlineSeconds", "tolerations")
_CONTAINERS: Final = "Forbidden: pod updates may not add or remove containers"
_POD_UPDATES: Final = (
    "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_PATIENCE: Final[tuple[Object, ...]] = tuple(
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


def frozen(*paths: str) -> Callable[[Object, Object | None], Iterable[Cause]]:
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


def judge_event(new: Object, _old: Object | None) -> Iterable[Cause]:
    """Refuse an Event that lies elsewhere than what it is about."""
    about = new["involvedObject"].get("namespace", "")
    if about and about != new["metadata"]["namespace"]:
        message = f'Invalid value: "{about}": does not match event.namespace'
        yield Cause(INVALID, message, "involvedObject.namespace")


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
    if len(spec["containers"]) != len(was["containers"]):
        yield Cause(_FORBIDDEN, _CONTAINERS, "spec.containers")
        return
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


def complete_pod(pod: Object, old: Object | None) -> Object:
    """Fill in what a server computes for a Pod: how its images are pulled, and that its requests are its limits unless they are given."""
    spec = pod.get("spec")
    if old is not None and spec is old.get("spec"):
        return pod
    full = _without_gates(_with_requests(_with_pull_policies(spec)))
    if isinstance(full, dict) and "enableServiceLinks" not in full:
        full = full | {"enableServiceLinks": True}
    return pod if full is spec else pod | {"spec": full}


def admitted_pod(pod: Object) -> Object:
    """Add to a new Pod what admission adds everywhere: account, priority, and patience with a node that is away."""
    spec = pod["spec"]
    account = spec.get("serviceAccountName") or "default"
    named = {"serviceAccountName": account, "serviceAccount": account}
    patient = [*spec.get("tolerations", ()), *(one for one in _PATIENCE if not _tolerates(spec, one["key"]))]
    ranked = {"priority": 0, "preemptionPolicy": "PreemptLowerPriority"}
    return pod | {"spec": ranked | named | spec | {"tolerations": patient}}


def _tolerates(spec: Object, key: str) -> bool:
    """Say whether a Pod says by itself how long it stays on a node with this taint."""
    return any(
        one.get("key") in (key, None, "") and one.get("effect") in ("NoExecute", None, "")
        for one in spec.get("tolerations", ())
    )


def _without_gates(spec: Any) -> Any:
    """Return a Pod's spec without an empty list of gates, as it is stored once the last has gone."""
    if not isinstance(spec, dict) or spec.get("schedulingGates") != []:
        return spec
    return {key: value for key, value in spec.items() if key != "schedulingGates"}


def _each_container(spec: Any, change: Callable[[Any], Any]) -> Any:
    """Return a Pod's spec with every container changed; the very same where nothing is."""
    if not isinstance(spec, dict):
        return spec
    lists = {
        name: spec[name] for name in ("containers", "initContainers") if isinstance(spec.get(name), list)
    }
    full = {name: [change(one) for one in containers] for name, containers in lists.items()}
    return spec if full == lists else spec | full


def _with_requests(spec: Any) -> Any:
    """Return a Pod's spec in which each container asks for what it is limited to; the very same where each says so."""
    return _each_container(spec, _with_request)


def _with_request(container: Any) -> Any:
    told = container.get("resources") if isinstance(container, dict) else None
    if not isinstance(told, dict):
        return container
    limits, requests = told.get("limits"), told.get("requests") or {}
    if not isinstance(limits, dict) or not isinstance(requests, dict):
        return container
    asked = limits | requests
    return (
        container if asked == told.get("requests") else container | {"resources": told | {"requests": asked}}
    )


def complete_job(job: Object, old: Object | None) -> Object:
    """Fill in for a Job what its Pods will be given, and how they are known by it."""
    spec = job.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(template, dict) or spec is (old or {}).get("spec"):
        return job
    full = _with_pull_policies(template.get("spec"))
    template = template if full is template.get("spec") else template | {"spec": full}
    uid, name = job["metadata"].get("uid"), job["metadata"].get("name")
    if old is None and uid and not spec.get("manualSelector"):
        metadata = template.get("metadata") or {}
        labels = dict.fromkeys(_JOB_LABELS, uid) | dict.fromkeys(_JOB_NAMES, name)
        template = template | {"metadata": metadata | {"labels": (metadata.get("labels") or {}) | labels}}
        spec = spec | {"selector": {"matchLabels": {_JOB_LABELS[0]: uid}}}
    if template is spec.get("template"):
        return job
    return _labelled(job | {"spec": spec | {"template": template}}, template)


def _labelled(job: Object, template: Object) -> Object:
    """Return a Job with labels; one without any carries those of its Pods, as a real server has it."""
    metadata, labels = job["metadata"], (template.get("metadata") or {}).get("labels")
    return job if metadata.get("labels") or not labels else job | {"metadata": metadata | {"labels": labels}}


def _with_pull_policies(spec: Any) -> Any:
    """Return a Pod's spec with a policy for each container; the very same where each has one."""
    return _each_container(spec, _with_pull_policy)


def _with_pull_policy(container: Any) -> Any:
    if not isinstance(container, dict) or "imagePullPolicy" in container:
        return container
    image = str(container.get("image", ""))
    tag = image.rpartition("/")[2].partition(":")[2]
    latest = "@" not in image and tag in ("", "latest")
    return container | {"imagePullPolicy": "Always" if latest else "IfNotPresent"}


def complete_secret(secret: Object, _old: Object | None) -> Object:
    """Store as data what was written as text."""
    said = secret.get("stringData")
    if not isinstance(said, dict):
        return secret
    encoded = {key: base64.b64encode(str(value).encode()).decode() for key, value in said.items()}
    rest = {key: value for key, value in secret.items() if key != "stringData"}
    return rest | {"data": (secret.get("data") or {}) | encoded}
