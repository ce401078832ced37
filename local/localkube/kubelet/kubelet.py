"""Kubelet: which Pods run here. It follows the Pods bound to this node and keeps one `Pod` for each.

After a start it first takes over what its records tell of, alive or ended; what the API no longer knows is stopped.
"""

import asyncio
import logging
from datetime import UTC, datetime

from localkube.kubelet import container_process
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.client import Object
from localkube.kubelet.list_watch import mirror
from localkube.kubelet.node_context import Host
from localkube.kubelet.pod import Pod
from localkube.kubelet.pod_status import stamp

_PODS = "/api/v1/pods"
_OVER = ("Succeeded", "Failed")

log = logging.getLogger(__name__)


class Kubelet:
    """The Pods of one node."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._pods: dict[str, Pod] = {}  # uid -> Pod
        self._present: set[str] = set()  # uids that the API has
        self._spare: str | None = None
        self._emptied = asyncio.Event()
        self._ending = False

    async def run(self) -> None:
        """Follow the Pods for ever. Cancelling leaves their processes running."""
        async with asyncio.TaskGroup() as tasks:
            self._take_over(tasks)
            self._spare = self._host.addresses.take()
            field = f"spec.nodeName={self._host.name}"
            async for kind, pod in mirror(self._host.client, _PODS, marks=True, fieldSelector=field):
                if kind == "LISTED":
                    self._compare()
                elif kind == "DELETED":
                    self._gone(pod["metadata"]["uid"])
                else:
                    self._see(pod, tasks)

    async def end_all(self) -> None:
        """Stop every Pod's processes, with their grace; their records stay, so that they come back with the node."""
        self._ending = True  # what the API says of a Pod from now on is for the next node
        for pod in self._pods.values():
            pod.end("with the node")
        while self._pods:
            self._emptied.clear()
            await self._emptied.wait()

    def find(self, namespace: str, name: str) -> PodRecord | None:
        """Return the record of a Pod; of several by one name, the newest."""
        for pod in reversed(self._pods.values()):
            metadata = pod.record.pod["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return pod.record
        return None

    def _take_over(self, tasks: asyncio.TaskGroup) -> None:
        records = self._host.records.load()
        kept = {self._host.layout.runs / record.uid for record in records}
        container_process.end_all(self._host.layout.runs, frozenset(kept))
        for record in records:
            _same_boot(record, self._host.boot)
            self._host.addresses.keep(record.address)
            self._host.devices.keep(record.uid, record.devices)
            log.info("takes over pod %s", record.uid)
            self._start(record, tasks)

    def _see(self, pod: Object, tasks: asyncio.TaskGroup) -> None:
        uid = pod["metadata"]["uid"]
        self._present.add(uid)
        if uid in self._pods:
            self._pods[uid].see(pod)
            return
        over = (pod.get("status") or {}).get("phase") in _OVER
        if self._ending or (over and not pod["metadata"].get("deletionTimestamp")):
            return
        address = self._spare or self._host.addresses.take()
        self._spare = None
        now = stamp(datetime.now(UTC))
        record = PodRecord(pod=pod, address=address, started_at=now, boot=self._host.boot)
        self._start(record, tasks).see(pod)
        asyncio.get_running_loop().call_later(0.1, self._lay_by)

    def _lay_by(self) -> None:
        """Look for the next Pod's address before it is needed."""
        self._spare = self._spare or self._host.addresses.take()

    def _start(self, record: PodRecord, tasks: asyncio.TaskGroup) -> Pod:
        pod = self._pods[record.uid] = Pod(self._host, record, self._released)
        tasks.create_task(pod.run())
        return pod

    def _compare(self) -> None:
        """Stop what the API does not have; from now on Pods may start new processes."""
        self._host.listed.set()
        for uid in [uid for uid in self._pods if uid not in self._present]:
            self._gone(uid)

    def _gone(self, uid: str) -> None:
        self._present.discard(uid)
        if uid in self._pods:
            self._pods[uid].end("gone")

    def _released(self, pod: Pod) -> None:
        self._pods.pop(pod.record.uid, None)
        self._emptied.set()


def _same_boot(record: PodRecord, boot: str) -> None:
    """Forget process numbers of before the machine was booted: they mean others now."""
    if record.boot != boot:
        record.boot = boot
        for container in record.containers.values():
            container.identity = None
