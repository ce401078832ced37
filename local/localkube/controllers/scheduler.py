"""Scheduler: binds every Pod without a node and without scheduling gates to a node that fits.

kube-scheduler without priorities, preemption and scoring plugins: of the nodes that pass `node_fit`, the one with the fewest Pods is
chosen. Pending Pods are tried again when a node, a volume or another Pod changes. The chosen node is written to the Pod's unbound PVCs,
as kube-scheduler does for dynamic provisioning.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

from localkube.apiserver.errors import ApiError
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import Options, Patch, Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.controllers.event_recorder import EventRecorder
from localkube.controllers.node_fit import NodeInfo, fit_error, node_info, unschedulable_reasons

SELECTED_NODE = "volume.kubernetes.io/selected-node"
_SCHEDULER = "default-scheduler"
_OPTIONS = Options(manager="kube-scheduler")
_TERMINAL_PHASES = ("Succeeded", "Failed")


class PVCNotFoundError(Exception):
    """A Pod uses a PVC that does not exist; the message is kube-scheduler's."""


class Scheduler:
    """The controller. A change that may make a Pod schedulable marks it for the next step."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._events = EventRecorder(store, now, _SCHEDULER)
        self._pods, self._nodes = self._resource("pods"), self._resource("nodes")
        self._claims, self._volumes = (
            self._resource("persistentvolumeclaims"),
            self._resource("persistentvolumes"),
        )
        self._changed = True
        self._stops = [
            store.subscribe(res, None, Query(), self._on_event, since=None)
            for res in (self._pods, self._nodes, self._claims, self._volumes)
        ]

    def close(self) -> None:
        """Unsubscribe from the store."""
        for stop in self._stops:
            stop()

    def step(self) -> bool:
        """Bind every Pod that fits somewhere, oldest first, and mark the others Unschedulable; False if nothing changed."""
        if not self._changed:
            return self._events.write()
        self._changed = False
        for pod in self._pending_pods():
            self._schedule(pod)
        return True

    def next_deadline(self) -> datetime | None:
        """Return when `step` has something to do next without a change of the store; None: never."""
        return self._events.due

    def _on_event(self, event: WatchEvent) -> None:
        if event.obj["kind"] != "Pod" or self._may_affect(event):
            self._changed = True

    @staticmethod
    def _may_affect(event: WatchEvent) -> bool:
        """Return whether a Pod's change frees resources, or makes the Pod itself schedulable."""
        pod = event.obj
        waits = not pod["spec"].get("nodeName") and not pod["spec"].get("schedulingGates")
        return waits or event.type == "DELETED" or (pod.get("status") or {}).get("phase") in _TERMINAL_PHASES

    def _pending_pods(self) -> list[Object]:
        pods = self._store.list(self._pods, None, Query(field_selector="spec.nodeName=")).items
        ready = [pod for pod in pods if not pod["spec"].get("schedulingGates") and not _is_deleting(pod)]
        return sorted(ready, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def _schedule(self, pod: Object) -> None:
        try:
            claims = list(self._claims_of(pod))
        except PVCNotFoundError as error:
            nodes = len(self._store.list(self._nodes, None).items)
            self._mark_unschedulable(pod, f"0/{nodes} nodes are available: {error}.")
            return
        volumes = [volume for claim in claims if (volume := self._volume(claim)) is not None]
        infos = [self._node_info(node) for node in self._store.list(self._nodes, None).items]
        reasons = {info.name: unschedulable_reasons(pod, info, volumes) for info in infos}
        fitting = [info for info in infos if not reasons[info.name]]
        if fitting:
            best = min(fitting, key=lambda info: (info.pods, info.name))
            self._bind(pod, best.name, claims)
        else:
            self._mark_unschedulable(pod, fit_error(reasons))

    def _node_info(self, node: Object) -> NodeInfo:
        name = node["metadata"]["name"]
        query = Query(field_selector=f"spec.nodeName={name}")
        return node_info(node, self._store.list(self._pods, None, query).items)

    def _claims_of(self, pod: Object) -> Iterator[Object]:
        for volume in pod["spec"].get("volumes") or ():
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                claim = self._store.find(self._claims, pod["metadata"]["namespace"], name)
                if claim is None:
                    raise PVCNotFoundError(f'persistentvolumeclaim "{name}" not found')
                yield claim

    def _volume(self, claim: Object) -> Object | None:
        name = claim["spec"].get("volumeName")
        return self._store.find(self._volumes, None, name) if name else None

    def _bind(self, pod: Object, node: str, claims: list[Object]) -> None:
        metadata = pod["metadata"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "target": target,
        }
        try:
            for claim in claims:
                self._annotate(claim, node)
            self._store.update(
                self._pods, metadata["namespace"], metadata["name"], body, _OPTIONS, subresource="binding"
            )
        except ApiError as error:
            self._mark_unschedulable(pod, error.message)
            return
        where = f"{metadata['namespace']}/{metadata['name']}"
        self._events.record(pod, "Scheduled", f"Successfully assigned {where} to {node}")

    def _annotate(self, claim: Object, node: str) -> None:
        """Write the node of the first consumer to a PVC that is not bound yet."""
        metadata = claim["metadata"]
        if claim["spec"].get("volumeName") or SELECTED_NODE in (metadata.get("annotations") or {}):
            return
        patch = Patch("merge", {"metadata": {"annotations": {SELECTED_NODE: node}}})
        self._store.patch(self._claims, metadata["namespace"], metadata["name"], patch, _OPTIONS)

    def _mark_unschedulable(self, pod: Object, message: str) -> None:
        status, metadata = pod.get("status") or {}, pod["metadata"]
        conditions = status.get("conditions") or []
        previous: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
        if previous.get("reason") == "Unschedulable" and previous.get("message") == message:
            return
        condition = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": previous.get("lastTransitionTime", rfc3339(self._now()))
            if previous.get("status") == "False"
            else rfc3339(self._now()),
        }
        others = [each for each in conditions if each["type"] != "PodScheduled"]
        patch = Patch(
            "merge", {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [*others, condition]}}
        )
        try:
            self._store.patch(self._pods, metadata["namespace"], metadata["name"], patch, _OPTIONS, "status")
        except ApiError:  # deleted meanwhile
            return
        self._events.record(pod, "FailedScheduling", message, warning=True)

    def _resource(self, plural: str) -> Resource:
        res = self._store.registry.find("", "v1", plural)
        if res is None:
            raise LookupError(f"the registry has no {plural}")
        return res


def _is_deleting(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
