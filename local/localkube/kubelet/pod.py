"""Pod: one Pod on this node, from its first sight until nothing of it is left; one of kubelet's pod workers.

Three tasks run at once: its containers, the publishing of its latest status, and waiting for a request to stop. A Pod is stopped because
it was deleted (the API server still has the object: it is removed once nothing runs), because it was removed (the API server no longer
has it), or for a node shutdown (its checkpoint stays, and the next kubelet process starts it again).
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TypeAlias

from localkube.kubelet import admission, device_manager, pod_status, volumes
from localkube.kubelet.api_errors import ApiError, ConflictError, InvalidError, NotFoundError
from localkube.kubelet.checkpoint import PodRecord
from localkube.kubelet.client import Object, pod_path
from localkube.kubelet.container import Container
from localkube.kubelet.node_context import NodeContext
from localkube.kubelet.volumes import VolumeError

Ending: TypeAlias = Literal["deleted", "removed", "node shutdown"]
_FIRST_RETRY, _LONGEST_RETRY = 0.2, 5.0
_VOLUME_RETRY = 1.0
DEFAULT_GRACE = 30.0

log = logging.getLogger(__name__)


class Pod:
    """One Pod of this node. `released` is called once nothing of it runs and its checkpoint is removed."""

    def __init__(self, node: NodeContext, record: PodRecord, on_release: Callable[["Pod"], None]) -> None:
        self.record = record
        self._node = node
        self._released = on_release
        spec = record.pod["spec"]
        self._init_containers = [
            Container(node, record, c, self._save) for c in spec.get("initContainers") or ()
        ]
        self._containers = [Container(node, record, c, self._save) for c in spec["containers"]]
        self._ending: Ending | None = None
        self._grace = DEFAULT_GRACE
        self._stop_requested = asyncio.Event()
        self._dirty = asyncio.Event()
        self._sent: Object = {}

    @property
    def containers(self) -> list[Container]:
        """All containers, init containers first."""
        return [*self._init_containers, *self._containers]

    def update(self, pod: Object) -> None:
        """Apply a change of the Pod object."""
        self.record.pod = {**self.record.pod, "metadata": pod["metadata"], "status": pod.get("status") or {}}
        if pod["metadata"].get("deletionTimestamp"):
            self.stop("deleted", float(pod["metadata"].get("deletionGracePeriodSeconds") or 0))

    def stop(self, how: Ending, grace: float | None = None) -> None:
        """Request a stop within `grace` seconds (default: the Pod's own); a shorter grace of a later request counts from then."""
        seconds = self._grace_period() if grace is None else grace
        if self._stop_requested.is_set():
            if seconds < self._grace:
                asyncio.get_running_loop().call_later(seconds, self._kill)
            if how == "removed":
                self._ending = how
            return
        self._ending, self._grace = how, seconds
        self._stop_requested.set()

    async def run(self) -> None:
        """Run it until it was requested to stop and has stopped. Cancelling leaves its processes running."""
        async with asyncio.TaskGroup() as tasks:
            publishing = tasks.create_task(self._publish())
            running_containers = tasks.create_task(self._run_containers())
            await self._stop_requested.wait()
            running_containers.cancel()
            await asyncio.wait([running_containers])
            await self._terminate()
            publishing.cancel()
        await self._clean_up()

    async def _run_containers(self) -> None:
        rejection = admission.rejection(self.record.pod)
        if rejection and not self.record.failed:
            self.record.failed = (admission.REASON, rejection)
            self._node.events.record(self.record.pod, admission.REASON, rejection, warning=True)
        try:
            if not self.record.failed:
                async with asyncio.timeout(self._deadline()):
                    await self._start_containers()
        except TimeoutError:
            await self._fail(
                "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
            )
        except Exception as error:  # one broken Pod must not stop the node
            log.exception("pod %s", self.record.uid)
            await self._fail("NodeError", f"the local node failed to run it: {error}")
        self._save()

    async def _start_containers(self) -> None:
        await self._devices()
        folders = await self._volumes()
        for container in self._init_containers:
            await container.run(folders)
            termination = container.record.state.get("terminated") or {}
            if termination.get("exitCode") != 0:
                return
        async with asyncio.TaskGroup() as tasks:
            for container in self._containers:
                tasks.create_task(container.run(folders))

    async def _devices(self) -> None:
        requests = device_manager.requested(self.record.pod, self._node.devices.capacity)
        if self.record.devices or not requests:
            return
        annotations = self.record.pod["metadata"].get("annotations") or {}
        preferred_ids = str(annotations.get(self._node.devices_annotation, "")).split(",")
        if self._node.devices.available(requests, preferred_ids) is None:
            holders = ", ".join(self._node.devices.holders(requests)) or "no Pod"
            text = (
                f"waits for {_counted(requests)}: held by Pods with uid {holders}, whose processes still run"
            )
            self._set_waiting("DeviceBusy", text)
        self.record.devices = await self._node.devices.allocate(self.record.uid, requests, preferred_ids)
        self.record.device_ids = self._node.devices.ids(self.record.devices)

    async def _volumes(self) -> dict[str, Path]:
        scratch = self._node.layout.scratch(self.record.pod)
        scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        retry = _VOLUME_RETRY
        while True:
            try:
                return await volumes.prepare(
                    self.record.pod, scratch / "volumes", self._node.client, self._node.claims
                )
            except (VolumeError, OSError) as error:
                self._set_waiting("FailedMount", f"Unable to attach or mount volumes: {error}")
            except ApiError as error:
                log.warning("pod %s: its volumes are not ready: %s", self.record.uid, error)
            await asyncio.sleep(retry)
            retry = min(2 * retry, 8 * _VOLUME_RETRY)

    def _set_waiting(self, reason: str, message: str) -> None:
        self._node.events.record(self.record.pod, reason, message, warning=True)
        for container in self.containers:
            if not container.record.attempt:
                container.record.state = {"waiting": {"reason": "ContainerCreating", "message": message}}
        self._save()

    async def _fail(self, reason: str, message: str) -> None:
        self.record.failed = (reason, message)
        await self._stop_all(self._grace_period())
        self._save()

    async def _stop_all(self, grace: float, *, node_shutdown: bool = False) -> None:
        async with asyncio.TaskGroup() as tasks:
            for container in self.containers:
                tasks.create_task(container.stop(grace, node_shutdown=node_shutdown))

    async def _terminate(self) -> None:
        await self._stop_all(self._grace, node_shutdown=self._ending == "node shutdown")
        self._node.checkpoints.save(self.record)
        if self._ending == "node shutdown":
            with contextlib.suppress(ApiError):  # the next kubelet process publishes it
                await self._send(terminated=False)
            return
        self._node.devices.release(self.record.uid)
        if self._ending == "deleted":
            await self._confirm_deletion()

    async def _confirm_deletion(self) -> None:
        """Delete the object with a grace period of 0: nothing of the Pod runs any more."""
        retry = _FIRST_RETRY
        while self._ending == "deleted":
            try:
                if self.record.pod["metadata"].get("finalizers"):
                    await self._send(terminated=True)
                await self._node.client.delete(pod_path(self.record.pod), uid=self.record.uid, grace=0)
            except ApiError as error:
                log.warning("pod %s: its deletion is not confirmed yet: %s", self.record.uid, error)
                await asyncio.sleep(retry)
                retry = min(2 * retry, _LONGEST_RETRY)
            else:
                return

    async def _clean_up(self) -> None:
        if self._ending != "node shutdown":
            layout, pod = self._node.layout, self.record.pod
            for folder in (layout.scratch(pod), layout.runs / self.record.uid, layout.logs(pod)):
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
            self._node.checkpoints.remove(self.record)
            self._node.pod_ips.release(self.record.address)
        self._released(self)

    def _save(self) -> None:
        """Write the checkpoint, and have the status published."""
        self._node.checkpoints.save(self.record)
        self._dirty.set()

    async def _publish(self) -> None:
        """Publish the latest status whenever it changed; retries while the API server is unavailable."""
        retry = _FIRST_RETRY
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._send(terminated=False)
                retry = _FIRST_RETRY
            except (NotFoundError, ConflictError, InvalidError) as error:
                log.info("pod %s: its status was rejected: %s", self.record.uid, error)
            except ApiError as error:
                log.warning("pod %s: its status is not published yet: %s", self.record.uid, error)
                await asyncio.sleep(retry)
                retry = min(2 * retry, _LONGEST_RETRY)
                self._dirty.set()

    async def _send(self, *, terminated: bool) -> None:
        status = pod_status.of(self.record, datetime.now(UTC), terminated=terminated)
        if status == self._sent:
            return
        body = {"metadata": {"uid": self.record.uid}, "status": status}
        errors = () if not terminated else (NotFoundError, ConflictError)
        with contextlib.suppress(*errors):
            await self._node.client.merge(pod_path(self.record.pod, "status"), body)
        self._sent = status
        self.record.pod["status"] = {**(self.record.pod.get("status") or {}), **status}

    def _kill(self) -> None:
        for container in self.containers:
            if container.process is not None:
                container.process.kill()

    def _grace_period(self) -> float:
        return float(self.record.pod["spec"].get("terminationGracePeriodSeconds", DEFAULT_GRACE))

    def _deadline(self) -> float | None:
        seconds = self.record.pod["spec"].get("activeDeadlineSeconds")
        if seconds is None:
            return None
        started_at = datetime.fromisoformat(self.record.started_at)
        return max(float(seconds) - (datetime.now(UTC) - started_at).total_seconds(), 0.0)


def _counted(requests: dict[str, int]) -> str:
    return ", ".join(f"{number} {resource}" for resource, number in sorted(requests.items()))
