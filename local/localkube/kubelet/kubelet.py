"""Kubelet: follows the Pods bound to this node and runs one `Pod` for each; kubelet's sync loop.

After a start it first restores the Pods of its checkpoints, running or ended, and stops those that the API server no longer has.
"""

import asyncio
import logging
from datetime import UTC, datetime

from localkube.kubelet import container_process
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.client import Object
from localkube.kubelet.list_watch import list_and_watch
from localkube.kubelet.node_context import NodeContext
from localkube.kubelet.pod import Pod
from localkube.kubelet.pod_status import stamp

_PODS = "/api/v1/pods"
_TERMINAL_PHASES = ("Succeeded", "Failed")

log = logging.getLogger(__name__)


class Kubelet:
    """The Pods of one node."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._pods: dict[str, Pod] = {}  # uid -> Pod
        self._present: set[str] = set()  # uids that the API server has
        self._spare: str | None = None
        self._pod_released = asyncio.Event()
        self._stopping = False

    async def run(self) -> None:
        """Follow the Pods until cancelled, which leaves their processes running."""
        async with asyncio.TaskGroup() as tasks:
            self._restore(tasks)
            self._spare = self._node.pod_ips.allocate()
            field = f"spec.nodeName={self._node.name}"
            async for kind, pod in list_and_watch(
                self._node.client, _PODS, report_lists=True, fieldSelector=field
            ):
                if kind == "LISTED":
                    self._handle_list()
                elif kind == "DELETED":
                    self._handle_deleted(pod["metadata"]["uid"])
                else:
                    self._handle_pod(pod, tasks)

    async def stop_all(self) -> None:
        """Stop every Pod within its grace period; the checkpoints stay, so that the next kubelet process starts them again."""
        self._stopping = True  # later changes are for the next kubelet process
        for pod in self._pods.values():
            pod.stop("node shutdown")
        while self._pods:
            self._pod_released.clear()
            await self._pod_released.wait()

    def find(self, namespace: str, name: str) -> PodRecord | None:
        """Return the record of a Pod; of several with one name, the newest."""
        for pod in reversed(self._pods.values()):
            metadata = pod.record.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return pod.record
        return None

    def _restore(self, tasks: asyncio.TaskGroup) -> None:
        records = self._node.checkpoints.load()
        folders = {self._node.layout.runs / record.uid for record in records}
        container_process.kill_all_except(self._node.layout.runs, frozenset(folders))
        for record in records:
            _clear_stale_identities(record, self._node.boot)
            self._node.pod_ips.reserve(record.address)
            self._node.devices.restore(record.uid, record.devices)
            log.info("restores pod %s", record.uid)
            self._start(record, tasks)

    def _handle_pod(self, pod: Object, tasks: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        self._present.add(uid)
        if uid in self._pods:
            self._pods[uid].update(pod)
            return
        terminal = (pod.get("status") or {}).get("phase") in _TERMINAL_PHASES
        if self._stopping or (terminal and not pod["metadata"].get("deletionTimestamp")):
            return
        address = self._spare or self._node.pod_ips.allocate()
        self._spare = None
        now = stamp(datetime.now(UTC))
        record = PodRecord(pod=pod, address=address, started_at=now, boot=self._node.boot)
        self._start(record, tasks).update(pod)
        asyncio.get_running_loop().call_later(0.1, self._allocate_spare)

    def _allocate_spare(self) -> None:
        """Allocate the next Pod's address before it is needed: that reads /proc."""
        self._spare = self._spare or self._node.pod_ips.allocate()

    def _start(self, record: PodRecord, tasks: asyncio.TaskGroup) -> Pod:
        pod = self._pods[record.uid] = Pod(self._node, record, self._released)
        tasks.create_task(pod.run())
        return pod

    def _handle_list(self) -> None:
        """Stop the Pods that the list lacks; from now on Pods may start processes."""
        self._node.listed.set()
        for uid in [uid for uid in self._pods if uid not in self._present]:
            self._handle_deleted(uid)

    def _handle_deleted(self, uid: str) -> None:
        self._present.discard(uid)
        if uid in self._pods:
            self._pods[uid].stop("removed")

    def _released(self, pod: Pod) -> None:
        self._pods.pop(pod.record.uid, None)
        self._pod_released.set()


def _clear_stale_identities(record: PodRecord, boot: str) -> None:
    """Drop process ids of an earlier boot: other processes have them now."""
    if record.boot != boot:
        record.boot = boot
        for container in record.containers.values():
            container.identity = None
