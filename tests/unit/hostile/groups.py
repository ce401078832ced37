"""A shared group in which one Model leaves and a lease holds devices, and the devices that a DRA driver offers."""

from typing import Any

from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.kinds import GPU_LEASES, RESOURCE_CLAIMS, RESOURCE_SLICES, SHARED_GROUPS, Kind

Json = dict[str, Any]


def _a_device(**more: Any) -> Json:
    return {"uuid": "GPU-1", "memoryMB": 4000} | more


def _a_group(meta: Json, conditions: list[Json], stamp: str) -> Json:
    seen = {"usedBeforeMB": 100, "otherProcesses": [{"pid": 7, "name": "game"}]}
    leaver = {
        "model": "llama", "uid": "uid-llama", "turn": 3, "step": "Stopped", "node": "node-a", "devices": [_a_device(**seen)],
        "reason": "idle", "since": stamp, "madeRoom": True, "awaySeconds": 5, "preemptedBy": "other",
    }  # fmt: skip
    lease = {
        "lease": "game", "uid": "uid-game", "turn": 4, "step": "Granted", "node": "node-a", "devices": [_a_device()], "since": stamp,
    }  # fmt: skip
    return {
        "apiVersion": API_VERSION,
        "kind": "SharedGroup",
        "metadata": meta,
        "spec": {"group": "card", "mode": "Budget", "minStay": "30s", "maxWait": "5m", "reserveMB": 512},
        "status": {
            "observedGeneration": 1, "turn": 4, "node": "node-a", "holders": [leaver, lease], "holderNames": "llama, lease game",
            "devices": [{"uuid": "GPU-1", "totalMB": 24000, "budgetMB": 23000}], "roomFor": "uid-other", "heldMB": 8000,
            "budgetMB": 23000, "conditions": conditions,
        },
    }  # fmt: skip


def _a_lease(meta: Json, status: Json) -> Json:
    spec = {"group": "card", "memoryMB": 2000, "priority": 1000, "duration": "2h", "reason": "evening"}
    return {"apiVersion": API_VERSION, "kind": "GPULease", "metadata": meta, "spec": spec, "status": status}


def _a_slice(meta: Json) -> Json:
    policy = {
        "default": "1Gi",
        "validRange": {"min": "1Gi", "max": "20Gi", "step": "1Mi"},
        "validValues": ["1Gi"],
    }
    device = {
        "name": "gpu-0",
        "allowMultipleAllocations": True,
        "attributes": {
            "uuid": {"string": "GPU-1"},
            "type": {"string": "gpu"},
            "resource.kubernetes.io/pciBusID": {"string": "0000:01:00.0"},
        },
        "capacity": {"memory": {"value": "24Gi", "requestPolicy": policy}},
        "taints": [{"key": "broken", "effect": "NoSchedule"}],
    }
    pool = {"name": "node-a", "generation": 1}
    return {
        "metadata": meta,
        "spec": {"driver": "gpu.nvidia.com", "nodeName": "node-a", "pool": pool, "devices": [device]},
    }


def _a_claim(meta: Json) -> Json:
    result = {
        "driver": "gpu.nvidia.com", "pool": "node-a", "device": "gpu-0", "shareID": "s", "consumedCapacity": {"memory": "2Gi"},
        "adminAccess": False,
    }  # fmt: skip
    status = {
        "allocation": {"devices": {"results": [result]}},
        "reservedFor": [{"resource": "pods", "uid": "u"}],
    }
    return {"metadata": meta, "status": status}


def group_objects(meta: Any, condition: Any, stamp: str) -> list[tuple[Kind[Any], Json]]:
    """Return a SharedGroup, a GPULease that is granted and one that waits, a ResourceSlice and a ResourceClaim; `meta` and `condition` build their parts."""
    conditions = [condition("Accepted"), condition("Initialized"), condition("Blocked", "False")]
    granted = {
        "observedGeneration": 1, "position": 0, "turn": 4, "sharedGroup": "uid-card", "node": "node-a", "devices": [_a_device()],
        "since": stamp, "expiresAt": "2026-01-02T05:04:05Z", "conditions": [condition("Granted")],
    }  # fmt: skip
    queued = {"position": 1, "conditions": [condition("Granted", "False", "Queued")]}
    return [
        (SHARED_GROUPS, _a_group(meta("card", finalizers=["flexinfer.ai/held"]), conditions, stamp)),
        (GPU_LEASES, _a_lease(meta("game"), granted)),
        (GPU_LEASES, _a_lease(meta("later"), queued)),
        (RESOURCE_SLICES, _a_slice(meta("slice", namespace=""))),
        (RESOURCE_CLAIMS, _a_claim(meta("claim", labels={}))),
    ]
