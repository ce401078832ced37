"""Job controller: creates Pods from a Job's template until enough of them succeeded, or too many failed.

The Job controller of kube-controller-manager, without indexed Jobs, Pod failure policies and the `job-tracking` finalizer: a Pod that
another client deletes is replaced and not counted as failed. The Pods of a Job are listed at every sync; nothing is cached.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TypeAlias

from localkube.apiserver.errors import ApiError
from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.controllers import job_status
from localkube.controllers.event_recorder import EventRecorder
from localkube.controllers.job_status import JobDecision

Key: TypeAlias = tuple[str, str]  # namespace, name
JOB_NAME, LEGACY_JOB_NAME = "batch.kubernetes.io/job-name", "job-name"
CONTROLLER_UID, LEGACY_CONTROLLER_UID = "batch.kubernetes.io/controller-uid", "controller-uid"
_OPTIONS = Options(manager="kube-controller-manager")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes' own random suffixes: no words by accident
_LONGEST_STEM = 57
_SUFFIX = 5


class JobController:
    """The controller. Jobs are queued with the time of their next sync."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._events = EventRecorder(store, now, "job-controller")
        self._pods, self._jobs = self._resource("", "pods"), self._resource("batch", "jobs")
        self._due: dict[Key, datetime] = {}  # when to sync
        self._stops = (
            store.subscribe(self._jobs, None, Query(), self._on_job, since=None),
            store.subscribe(self._pods, None, Query(), self._on_pod, since=None),
        )
        for job in store.list(self._jobs, None).items:
            self._enqueue(_key(job))

    def close(self) -> None:
        """Unsubscribe from the store."""
        for stop in self._stops:
            stop()

    def step(self) -> bool:
        """Sync every Job that is due; returns whether there were any."""
        now = self._now()
        due_now = sorted(key for key, due in self._due.items() if due <= now)
        for key in due_now:
            del self._due[key]
            job = self._store.find(self._jobs, *key)
            if job is not None and "deletionTimestamp" not in job["metadata"]:
                self._sync(job, now)
        return self._events.write() or bool(due_now)

    def next_deadline(self) -> datetime | None:
        """Return when `step` has something to do next without a change of the store; None: never."""
        times = [*self._due.values(), *([self._events.due] if self._events.due else [])]
        return min(times, default=None)

    def _on_job(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self._due.pop(_key(event.obj), None)
        else:
            self._enqueue(_key(event.obj))

    def _on_pod(self, event: WatchEvent) -> None:
        for owner in event.obj["metadata"].get("ownerReferences") or ():
            if owner["kind"] == "Job" and owner.get("controller"):
                self._enqueue((event.obj["metadata"]["namespace"], owner["name"]))

    def _enqueue(self, key: Key, when: datetime | None = None) -> None:
        when = when or self._now()
        self._due[key] = min(when, self._due.get(key, when))

    def _sync(self, job: Object, now: datetime) -> None:
        pods = self._owned(job)
        if job_status.finished(job):
            self._delete_after_ttl(job, now)
            return
        decision = job_status.decide(job, pods, now)
        if decision.requeue_at is not None:
            self._enqueue(_key(job), decision.requeue_at)
        for pod in decision.surplus:
            self._delete(self._pods, pod)
        status = job_status.status(job, pods, decision, rfc3339(now))
        self._write_status(job, status)
        self._record_events(job, decision)
        for place in range(decision.missing):
            self._create_pod(job, len(pods) + place)

    def _owned(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        pods = self._store.list(self._pods, job["metadata"]["namespace"]).items
        return [
            pod
            for pod in pods
            if any(
                o["uid"] == uid and o.get("controller") for o in pod["metadata"].get("ownerReferences") or ()
            )
        ]

    def _delete_after_ttl(self, job: Object, now: datetime) -> None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        due = job_status.ended_at(job) + timedelta(seconds=float(seconds))
        if now < due:
            self._enqueue(_key(job), due)
        else:
            self._delete(self._jobs, job)

    def _write_status(self, job: Object, status: Object) -> None:
        if status == {**(job.get("status") or {})}:
            return
        removals = {key: None for key in job.get("status") or {} if key not in status}
        patch = Patch("merge", {"status": {**removals, **status}})
        metadata = job["metadata"]
        try:
            self._store.patch(self._jobs, metadata["namespace"], metadata["name"], patch, _OPTIONS, "status")
        except ApiError:  # the Job was deleted meanwhile
            return

    def _record_events(self, job: Object, decision: JobDecision) -> None:
        if decision.complete:
            self._events.record(job, "Completed", "Job completed")
        elif decision.failure is not None:
            reason, message = decision.failure
            self._events.record(job, reason, message, warning=True)

    def _create_pod(self, job: Object, number: int) -> None:
        for attempt in range(_SUFFIX):
            pod = _new_pod(job, number + 1000 * attempt)
            try:
                self._store.create(self._pods, job["metadata"]["namespace"], pod, _OPTIONS)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    self._events.record(job, "FailedCreate", f"Error creating: {error.message}", warning=True)
                    self._enqueue(_key(job), self._now() + job_status.FIRST_DELAY)
                    return
            else:
                self._events.record(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
                return

    def _delete(self, res: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        options = DeleteOptions(uid=metadata["uid"], propagation="Background")
        try:
            self._store.delete(res, metadata["namespace"], metadata["name"], options)
        except ApiError:  # already deleted
            return

    def _resource(self, group: str, plural: str) -> Resource:
        res = self._store.registry.find(group, "v1", plural)
        if res is None:
            raise LookupError(f"the registry has no {plural}")
        return res


def _key(job: Object) -> Key:
    return job["metadata"]["namespace"], job["metadata"]["name"]


def _new_pod(job: Object, number: int) -> Object:
    """Return the Pod of one attempt; its name derives from Job and number, so that a repeated sync creates no second one."""
    metadata, template = job["metadata"], job["spec"]["template"]
    pod_metadata = template.get("metadata") or {}
    labels = {
        JOB_NAME: metadata["name"],
        LEGACY_JOB_NAME: metadata["name"],
        CONTROLLER_UID: metadata["uid"],
        LEGACY_CONTROLLER_UID: metadata["uid"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{metadata['name'][:_LONGEST_STEM]}-{_suffix(metadata['uid'], number)}",
            "namespace": metadata["namespace"],
            "labels": {**(pod_metadata.get("labels") or {}), **labels},
            **({"annotations": pod_metadata["annotations"]} if pod_metadata.get("annotations") else {}),
            "ownerReferences": [
                {
                    "apiVersion": "batch/v1",
                    "kind": "Job",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": template["spec"],
    }


def _suffix(uid: str, number: int) -> str:
    digest = hashlib.sha256(f"{uid}/{number}".encode()).digest()
    return "".join(_ALPHABET[byte % len(_ALPHABET)] for byte in digest[:_SUFFIX])
