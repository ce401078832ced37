"""Node registration: the Node object, its Lease, and the heartbeat of both, as kubelet's nodestatus and nodelease do.

Labels and taints of other clients stay: only the fields that a node itself knows are written.
"""

import asyncio
import logging
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from localkube.kubelet.api_errors import ApiError, NotFoundError
from localkube.kubelet.checkpoint import boot_id
from localkube.kubelet.client import Client, Object
from localkube.kubelet.pod_status import HOST, stamp

LEASE_NAMESPACE = "kube-node-lease"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{LEASE_NAMESPACE}/leases"
NODES = "/api/v1/nodes"
LEASE_SECONDS = 40
RENEW_SECONDS = 10.0
_STATUS_EVERY = 30  # renewals
_FIRST_RETRY, _LONGEST_RETRY = 0.1, 5.0
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_MAX_PODS = 110

log = logging.getLogger(__name__)


class NodeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """What a node writes of itself: its name, the port of its endpoint, its extended resources, and labels beside the well-known ones."""

    name: str
    port: int
    extended: Mapping[str, int] = {}
    labels: Mapping[str, str] = {}


async def register(client: Client, node: NodeIdentity) -> None:
    """Create or update the Node; retries until the API server has accepted it."""
    retry = _FIRST_RETRY
    while True:
        try:
            await _write(client, node)
        except ApiError as error:
            log.warning("node %s is not registered yet: %s", node.name, error)
            await asyncio.sleep(retry)
            retry = min(2 * retry, _LONGEST_RETRY)
        else:
            return


async def heartbeat(client: Client, node: NodeIdentity) -> None:
    """Renew the Lease every ten seconds and the Node's status every five minutes, until cancelled."""
    count = 0
    while True:
        try:
            await _renew(client, node.name)
            if count % _STATUS_EVERY == 0:
                await _write(client, node)
            count += 1
        except ApiError as error:
            log.warning("lease of node %s: %s", node.name, error)
        await asyncio.sleep(RENEW_SECONDS)


async def _write(client: Client, node: NodeIdentity) -> None:
    name, labels = node.name, {**node.labels, **_labels(node.name)}
    try:
        previous = await client.get(f"{NODES}/{name}")
        if any(previous["metadata"].get("labels", {}).get(key) != value for key, value in labels.items()):
            await client.merge(f"{NODES}/{name}", {"metadata": {"labels": labels}})
    except NotFoundError:
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}}
        previous = await client.create(NODES, body)
    now = stamp(datetime.now(UTC))
    await client.merge(f"{NODES}/{name}/status", {"status": _status(previous, node, now)})


async def _renew(client: Client, name: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": name, "leaseDurationSeconds": LEASE_SECONDS, "renewTime": now}
    try:
        await client.merge(f"{LEASES}/{name}", {"spec": spec})
    except NotFoundError:
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}}
        try:
            await client.create(LEASES, {**body, "spec": spec})
        except NotFoundError:
            space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": LEASE_NAMESPACE}}
            await client.create("/api/v1/namespaces", space)
            await client.create(LEASES, {**body, "spec": spec})


def _labels(name: str) -> dict[str, str]:
    architecture = _ARCHITECTURES.get(platform.machine(), platform.machine())
    return {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture,
        "beta.kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": architecture,
    }


def _status(previous: Object, node: NodeIdentity, now: str) -> Object:
    capacity = {
        "cpu": str(os.cpu_count() or 1),
        "memory": f"{_memory_kib()}Ki",
        "pods": str(_MAX_PODS),
        **{resource: str(number) for resource, number in node.extended.items()},
    }
    current = {c["type"]: c for c in (previous.get("status") or {}).get("conditions") or ()}
    conditions = [
        _condition(current, now, "MemoryPressure", "False", "KubeletHasSufficientMemory"),
        _condition(current, now, "DiskPressure", "False", "KubeletHasNoDiskPressure"),
        _condition(current, now, "PIDPressure", "False", "KubeletHasSufficientPID"),
        _condition(current, now, "Ready", "True", "KubeletReady"),
    ]
    return {
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": conditions,
        "addresses": [{"type": "InternalIP", "address": HOST}, {"type": "Hostname", "address": node.name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": node.port}},
        "nodeInfo": _node_info(),
    }


def _condition(current: Mapping[str, Object], now: str, kind: str, value: str, reason: str) -> Object:
    previous = current.get(kind, {})
    since = previous.get("lastTransitionTime") if previous.get("status") == value else None
    message = "the local node runs Pods as processes" if kind == "Ready" else "not measured by the local node"
    condition = {"type": kind, "status": value, "reason": reason, "message": message}
    return {**condition, "lastHeartbeatTime": now, "lastTransitionTime": since or now}


def _node_info() -> Object:
    machine = ""
    if Path("/etc/machine-id").exists():
        machine = Path("/etc/machine-id").read_text().strip()
    return {
        "machineID": machine,
        "systemUUID": machine,
        "bootID": boot_id(),
        "kernelVersion": platform.release(),
        "osImage": _distribution(),
        "containerRuntimeVersion": "process://1",
        "kubeletVersion": "v1.37.0-localkube",
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
    }


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _memory_kib() -> int:
    with Path("/proc/meminfo").open() as table:
        return next((int(line.split()[1]) for line in table if line.startswith("MemTotal:")), 0)
