"""Objects of the API server in which any value may be anything."""

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from flexinfer.api import conditions, kube
from flexinfer.api.kinds import CLAIMS, JOBS, LEASES, MODELS, NODES, PODS, Kind
from tests.unit.hostile.groups import group_objects

Json = dict[str, Any]
Path = tuple[str | int, ...]
STAMP = "2026-01-02T03:04:05Z"
HUGE = 10**400
TEXTS = (
    "", " ", "0", "1", "-1", "-0", "007", "1_0", "1.2.3Ki", "1e400", "-5", "NaN", "inf", "٣", "²", "9" * 400,
    "\x00", "\x1b[31m", "\u202e", "x" * 3000, "'\"\\{}%s", "a/b", "..", "../x", "-flag", "{" * 600, '{"x":' + "[" * 3000,
    '{"bytes":-1}', f'{{"bytes":{HUGE}}}', '{"revision":5}', "m 1e", "2026-13-45T99:99:99Z", "1ms", "9" * 15 + "h", "5m", "0s",
    "True", "False", "Unknown", "auto", "cpu", "amd", "intel", "HF://o/r", "pvc://models/x", "pvc://", "ollama://", "file://x",
    "vllm", "SharedPVC", "Memory", "card", "llama", "default", "flexinfer-system", "uid-llama", "node-a", "flexinfer.ai/turn-x",
    *conditions.CONDITIONS, "Idle", "Deleting", "Draining", "Fetching", "NodeNotReady", "NodeGone", "FirstStart", "Requested",
)  # fmt: skip
NUMBERS = (0, 1, -1, 2, 9, 2**31, 2**63 - 1, -(2**63), 2**64, HUGE, -HUGE)


def deep(levels: int) -> Any:
    """Return JSON that is nested this deep."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


ANYTHING = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(NUMBERS),
    st.text(max_size=12),
    st.sampled_from(
        [None, True, False, 0.5, -1e308, 1e308, [], {}, [[]], [{}], {"": ""}, {"x": {"y": 1}}, deep(200)]
    ),
)
OF_TYPE = {
    str: st.one_of(st.sampled_from(TEXTS), st.text(max_size=12)),
    int: st.sampled_from(NUMBERS),
    bool: st.booleans(),
    float: st.sampled_from([0.0, -1.0, 1e308, -1e308]),
    list: st.sampled_from([[], [None], [{}], ["", "x"]]),
    dict: st.dictionaries(st.sampled_from(TEXTS), st.sampled_from(TEXTS), max_size=3),
}


def a_meta(name: str, **more: Any) -> Json:
    """Return the metadata of an object of the Model llama."""
    labels = {"flexinfer.ai/model": "llama", "flexinfer.ai/model-uid": "uid-llama", "flexinfer.ai/turn": "3"}
    return {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "resourceVersion": "7",
        "generation": 1,
        "labels": labels,
        "annotations": {"flexinfer.ai/generation": "1", "flexinfer.ai/template": "abc"},
        "finalizers": ["flexinfer.ai/running"],
        "creationTimestamp": STAMP,
        "ownerReferences": [{"kind": "Model", "name": "llama", "uid": "uid-llama", "controller": True}],
    } | more


def a_condition(kind: str, status: str = "True", reason: str = "") -> Json:
    """Return a condition."""
    return {
        "type": kind, "status": status, "reason": reason or kind, "message": "m", "lastTransitionTime": STAMP,
        "observedGeneration": 1,
    }  # fmt: skip


def a_model(name: str = "llama") -> Json:
    """Return a Model with every field, which runs in a shared group."""
    return {
        "apiVersion": "flexinfer.ai/v1alpha1",
        "kind": "Model",
        "metadata": a_meta(name),
        "spec": {
            "backend": "llamacpp",
            "source": "pvc://models/x.gguf",
            "gpu": {"vendor": "nvidia", "shared": "card", "priority": 5, "count": 1, "vramEstimateMB": 4000},
            "serverless": {"enabled": True, "idleTimeout": "5m", "coldStartTimeout": "60s"},
            "cache": {"strategy": "SharedPVC", "pvcName": "c", "storageClass": "s", "size": "5Gi"},
            "config": {"contextSize": 4096, "ctxSize": 1, "parallel": 2, "hfAllowPatterns": ["*"]},
            "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "500m"}},
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "x", "effect": "NoSchedule"}],
            "litellm": {"enabled": True, "servedModelName": "s", "aliases": ["a"], "copilotAlias": "c"},
            "serviceLabels": ["textgen"],
        },
        "status": {
            "phase": "Ready",
            "observedGeneration": 1,
            "message": "m",
            "conditions": [a_condition(kind) for kind in conditions.CONDITIONS],
            "lastActiveTime": STAMP,
            "sharedGroup": {
                "group": "card",
                "state": "Active",
                "turn": 3,
                "position": 1,
                "holder": "llama",
                "since": STAMP,
            },
            "placement": {
                "node": "node-a",
                "devices": [{"uuid": "GPU-1", "memoryMB": 4000}],
                "vendor": "nvidia",
                "architecture": "sm_86",
                "footprintMB": 4000,
            },
            "cache": {
                "ready": True,
                "pvcName": "models",
                "jobName": "llama-check-1",
                "bytes": 5,
                "revision": "r",
            },
            "endpoint": "http://x/v1",
            "backend": {"address": "10.0.0.1:8080", "loadSeconds": 1.5, "restarts": 1, "turn": 3},
        },
    }


def a_container(**state: Any) -> Json:
    """Return the status of a container that ended once."""
    ended = {"terminated": {"exitCode": 1, "reason": "Error", "message": "boom"}}
    return {"name": "engine", "ready": True, "restartCount": 1, "state": state, "lastState": ended}


def a_pod(name: str, **more: Any) -> Json:
    """Return a running Pod."""
    spec = {
        "nodeName": "node-a",
        "schedulingGates": [{"name": "flexinfer.ai/turn-3"}],
        "containers": [
            {"name": "engine", "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}}
        ],
    }
    status = {
        "phase": "Running",
        "reason": "r",
        "message": "m",
        "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "reason": "r", "message": "m"}],
        "initContainerStatuses": [
            a_container(terminated={"exitCode": 0, "reason": "Completed", "message": "x"})
        ],
        "containerStatuses": [a_container(running={"startedAt": STAMP})],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": a_meta(name, **more),
        "spec": spec,
        "status": status,
    }


def cluster() -> list[tuple[Kind[Any], Json]]:
    """Return objects of each kind: two Models of a group, the engine's Pod, a Job with its Pod, a PVC, a node, and what `groups` has."""
    job = {
        "active": 1,
        "succeeded": 1,
        "failed": 1,
        "conditions": [{"type": "Failed", "status": "True", "reason": "x"}],
    }
    report = a_pod("check", ownerReferences=[{"kind": "Job", "uid": "uid-llama-check-1"}])
    report["status"]["containerStatuses"] = [
        a_container(terminated={"message": '{"bytes": 5, "revision": "r"}'})
    ]
    return [
        (NODES, {
            "metadata": a_meta("node-a", namespace=""),
            "spec": {"taints": [{"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}], "unschedulable": False},
            "status": {
                "allocatable": {"cpu": "8", "memory": "16Gi", "nvidia.com/gpu": 1, "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }),
        (CLAIMS, {"metadata": a_meta("models"), "spec": {"storageClassName": "s"}, "status": {"phase": "Bound", "capacity": {"storage": "1"}}}),
        (JOBS, {"metadata": a_meta("llama-check-1"), "status": job}),
        (PODS, report),
        (PODS, a_pod("llama-0")),
        (MODELS, a_model()),
        (MODELS, a_model("other")),
        *group_objects(a_meta, a_condition, STAMP),
    ]  # fmt: skip


def paths(value: Any, at: Path = ()) -> Iterator[Path]:
    """Yield where every value of a JSON document is."""
    if at:
        yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from paths(child, (*at, key))


_CLUSTER = cluster()
_IDENTITY = {("metadata", key) for key in ("name", "namespace", "uid")}
"""What the API server itself guarantees: everything else may be anything."""
PATHS = [
    (index, path)
    for index, (_, body) in enumerate(_CLUSTER)
    for path in paths(body)
    if path not in _IDENTITY | {("metadata",)}
]


def replaced(body: Any, path: Path, value: Any) -> None:
    """Put another value at a place."""
    *parents, last = path
    for key in parents:
        body = body[key]
    body[last] = value


def with_text(text: str) -> Iterator[tuple[Path, list[tuple[Kind[Any], Json]]]]:
    """Yield for each text of the cluster's objects where it stands, and the cluster in which it is this one."""
    for index, path in PATHS:
        if isinstance(_at(_CLUSTER[index][1], path), str):
            objects = copy.deepcopy(_CLUSTER)
            replaced(objects[index][1], path, text)
            yield path, objects


def _at(body: Any, path: Path) -> Any:
    for key in path:
        body = body[key]
    return body


@st.composite
def hostile_clusters(draw: st.DrawFn) -> list[tuple[Kind[Any], Json]]:
    """Draw a cluster in which up to four values are something else, most of them of the right type."""
    objects = copy.deepcopy(_CLUSTER)
    for index, path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4, unique=True)):
        present = _at(_CLUSTER[index][1], path)
        value = draw(OF_TYPE.get(type(present), ANYTHING) if draw(st.integers(0, 3)) else ANYTHING)
        try:
            replaced(objects[index][1], path, value)
        except (KeyError, IndexError, TypeError):
            continue  # another value replaced what held it
    return objects


__all__ = ["ANYTHING", "LEASES", "cluster", "hostile_clusters", "kube", "with_text"]
