"""Binding: a small kube-scheduler. A Pod without a node and without gates is given to one that can take it.

It looks again at every waiting Pod when a node, a volume or another Pod changes; it never evicts. The node that was chosen is
written to the PersistentVolumeClaims that a Pod uses, as a real scheduler does for a provisioner.
"""

from collections.abc import Callable, Iterator
from datetime import datetime

from localkube.apiserver.errors import ApiError
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import Options, Patch, Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.controllers.event_recorder import Notes
from localkube.controllers.node_fit import Room, obstacles, refusal, room

SELECTED_NODE = "volume.kubernetes.io/selected-node"
_SCHEDULER = "default-scheduler"
_OPTIONS = Options(manager="kube-scheduler")
_OVER = ("Succeeded", "Failed")


class MissingClaimError(Exception):
    """A Pod names a claim that does not exist; the message is kube-scheduler's."""


class Binding:
    """The controller. `step` does what there is to do; `next_deadline` says when to call again unasked."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._notes = Notes(store, now, _SCHEDULER)
        self._pods, self._nodes = self._named("pods"), self._named("nodes")
        self._claims, self._volumes = self._named("persistentvolumeclaims"), self._named("persistentvolumes")
        self._changed = True
        self._stops = [
            store.subscribe(res, None, Query(), self._note, since=None)
            for res in (self._pods, self._nodes, self._claims, self._volumes)
        ]

    def close(self) -> None:
        """Follow no longer."""
        for stop in self._stops:
            stop()

    def step(self) -> bool:
        """Bind every Pod that can be bound now, oldest first, and say of the others why not; False when nothing changed."""
        if not self._changed:
            return self._notes.write()
        self._changed = False
        for pod in self._waiting():
            self._place(pod)
        return True

    def next_deadline(self) -> datetime | None:
        """Return when `step` has something to do by itself."""
        return self._notes.due

    def _note(self, event: WatchEvent) -> None:
        if event.obj["kind"] != "Pod" or self._matters(event):
            self._changed = True

    @staticmethod
    def _matters(event: WatchEvent) -> bool:
        """Tell whether a Pod's change can make room, or is a Pod that waits."""
        pod = event.obj
        waits = not pod["spec"].get("nodeName") and not pod["spec"].get("schedulingGates")
        return waits or event.type == "DELETED" or (pod.get("status") or {}).get("phase") in _OVER

    def _waiting(self) -> list[Object]:
        found = self._store.list(self._pods, None, Query(field_selector="spec.nodeName=")).items
        ready = [pod for pod in found if not pod["spec"].get("schedulingGates") and not _leaving(pod)]
        return sorted(ready, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))

    def _place(self, pod: Object) -> None:
        try:
            claims = list(self._claims_of(pod))
        except MissingClaimError as error:
            nodes = len(self._store.list(self._nodes, None).items)
            self._refuse(pod, f"0/{nodes} nodes are available: {error}.")
            return
        volumes = [volume for claim in claims if (volume := self._volume(claim)) is not None]
        rooms = [self._room(node) for node in self._store.list(self._nodes, None).items]
        found = {there.name: obstacles(pod, there, volumes) for there in rooms}
        fitting = [there for there in rooms if not found[there.name]]
        if fitting:
            best = min(fitting, key=lambda there: (there.pods, there.name))
            self._bind(pod, best.name, claims)
        else:
            self._refuse(pod, refusal(found))

    def _room(self, node: Object) -> Room:
        name = node["metadata"]["name"]
        query = Query(field_selector=f"spec.nodeName={name}")
        return room(node, self._store.list(self._pods, None, query).items)

    def _claims_of(self, pod: Object) -> Iterator[Object]:
        for volume in pod["spec"].get("volumes") or ():
            if "persistentVolumeClaim" in volume:
                name = volume["persistentVolumeClaim"]["claimName"]
                claim = self._store.find(self._claims, pod["metadata"]["namespace"], name)
                if claim is None:
                    raise MissingClaimError(f'persistentvolumeclaim "{name}" not found')
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
                self._tell(claim, node)
            self._store.update(
                self._pods, metadata["namespace"], metadata["name"], body, _OPTIONS, subresource="binding"
            )
        except ApiError as error:
            self._refuse(pod, error.message)
            return
        where = f"{metadata['namespace']}/{metadata['name']}"
        self._notes.tell(pod, "Scheduled", f"Successfully assigned {where} to {node}")

    def _tell(self, claim: Object, node: str) -> None:
        """Tell a claim that is not bound yet which node its first consumer goes to."""
        metadata = claim["metadata"]
        if claim["spec"].get("volumeName") or SELECTED_NODE in (metadata.get("annotations") or {}):
            return
        patch = Patch("merge", {"metadata": {"annotations": {SELECTED_NODE: node}}})
        self._store.patch(self._claims, metadata["namespace"], metadata["name"], patch, _OPTIONS)

    def _refuse(self, pod: Object, message: str) -> None:
        status, metadata = pod.get("status") or {}, pod["metadata"]
        conditions = status.get("conditions") or []
        former: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
        if former.get("reason") == "Unschedulable" and former.get("message") == message:
            return
        told = {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": former.get("lastTransitionTime", rfc3339(self._now()))
            if former.get("status") == "False"
            else rfc3339(self._now()),
        }
        others = [condition for condition in conditions if condition["type"] != "PodScheduled"]
        patch = Patch(
            "merge", {"metadata": {"uid": metadata["uid"]}, "status": {"conditions": [*others, told]}}
        )
        try:
            self._store.patch(self._pods, metadata["namespace"], metadata["name"], patch, _OPTIONS, "status")
        except ApiError:  # gone meanwhile
            return
        self._notes.tell(pod, "FailedScheduling", message, warning=True)

    def _named(self, plural: str) -> Resource:
        found = self._store.registry.find("", "v1", plural)
        if found is None:
            raise LookupError(f"the registry offers no {plural}")
        return found


def _leaving(pod: Object) -> bool:
    return "deletionTimestamp" in pod["metadata"]
