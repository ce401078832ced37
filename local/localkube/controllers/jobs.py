"""Jobs: Pods from a template until enough of them succeeded, or too many failed.

What a Job's Pods are is read from the store at every look; nothing is remembered but which Jobs to look at. A Pod that somebody
deletes is made anew and not counted as failed (a real controller counts it by a finalizer).
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
from localkube.controllers.event_recorder import Notes
from localkube.controllers.job_status import Verdict

Key: TypeAlias = tuple[str, str]  # namespace, name
JOB_NAME, LEGACY_JOB_NAME = "batch.kubernetes.io/job-name", "job-name"
CONTROLLER_UID, LEGACY_CONTROLLER_UID = "batch.kubernetes.io/controller-uid", "controller-uid"
_OPTIONS = Options(manager="kube-controller-manager")
_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"  # as Kubernetes' own random suffixes: no words by accident
_LONGEST_STEM = 57
_SUFFIX = 5


class Jobs:
    """The controller. `step` does what there is to do; `next_deadline` says when to call again unasked."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store, self._now = store, now
        self._notes = Notes(store, now, "job-controller")
        self._pods, self._jobs = self._named("", "pods"), self._named("batch", "jobs")
        self._due: dict[Key, datetime] = {}  # when to look again
        self._stops = (
            store.subscribe(self._jobs, None, Query(), self._note_job, since=None),
            store.subscribe(self._pods, None, Query(), self._note_pod, since=None),
        )
        for job in store.list(self._jobs, None).items:
            self._look_at(_key(job))

    def close(self) -> None:
        """Follow no longer."""
        for stop in self._stops:
            stop()

    def step(self) -> bool:
        """Look at every Job that changed, or whose time has come; False when there is none."""
        now = self._now()
        due_now = sorted(key for key, due in self._due.items() if due <= now)
        for key in due_now:
            del self._due[key]
            job = self._store.find(self._jobs, *key)
            if job is not None and "deletionTimestamp" not in job["metadata"]:
                self._care_for(job, now)
        return self._notes.write() or bool(due_now)

    def next_deadline(self) -> datetime | None:
        """Return when `step` has something to do by itself."""
        times = [*self._due.values(), *([self._notes.due] if self._notes.due else [])]
        return min(times, default=None)

    def _note_job(self, event: WatchEvent) -> None:
        if event.type == "DELETED":
            self._due.pop(_key(event.obj), None)
        else:
            self._look_at(_key(event.obj))

    def _note_pod(self, event: WatchEvent) -> None:
        for owner in event.obj["metadata"].get("ownerReferences") or ():
            if owner["kind"] == "Job" and owner.get("controller"):
                self._look_at((event.obj["metadata"]["namespace"], owner["name"]))

    def _look_at(self, key: Key, when: datetime | None = None) -> None:
        when = when or self._now()
        self._due[key] = min(when, self._due.get(key, when))

    def _care_for(self, job: Object, now: datetime) -> None:
        pods = self._owned(job)
        if job_status.finished(job):
            self._clear_away(job, now)
            return
        verdict = job_status.judge(job, pods, now)
        if verdict.again is not None:
            self._look_at(_key(job), verdict.again)
        for pod in verdict.surplus:
            self._delete(self._pods, pod)
        status = job_status.status(job, pods, verdict, rfc3339(now))
        self._report(job, status)
        self._say(job, verdict)
        for place in range(verdict.missing):
            self._make_pod(job, len(pods) + place)

    def _owned(self, job: Object) -> list[Object]:
        uid = job["metadata"]["uid"]
        found = self._store.list(self._pods, job["metadata"]["namespace"]).items
        return [
            pod
            for pod in found
            if any(
                o["uid"] == uid and o.get("controller") for o in pod["metadata"].get("ownerReferences") or ()
            )
        ]

    def _clear_away(self, job: Object, now: datetime) -> None:
        seconds = job["spec"].get("ttlSecondsAfterFinished")
        if seconds is None:
            return
        due = job_status.ended_at(job) + timedelta(seconds=float(seconds))
        if now < due:
            self._look_at(_key(job), due)
        else:
            self._delete(self._jobs, job)

    def _report(self, job: Object, status: Object) -> None:
        if status == {**(job.get("status") or {})}:
            return
        removed = {key: None for key in job.get("status") or {} if key not in status}
        patch = Patch("merge", {"status": {**removed, **status}})
        metadata = job["metadata"]
        try:
            self._store.patch(self._jobs, metadata["namespace"], metadata["name"], patch, _OPTIONS, "status")
        except ApiError:  # gone meanwhile: nobody to tell
            return

    def _say(self, job: Object, verdict: Verdict) -> None:
        if verdict.complete:
            self._notes.tell(job, "Completed", "Job completed")
        elif verdict.failure is not None:
            reason, message = verdict.failure
            self._notes.tell(job, reason, message, warning=True)

    def _make_pod(self, job: Object, number: int) -> None:
        for attempt in range(_SUFFIX):
            pod = _pod(job, number + 1000 * attempt)
            try:
                self._store.create(self._pods, job["metadata"]["namespace"], pod, _OPTIONS)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    self._notes.tell(job, "FailedCreate", f"Error creating: {error.message}", warning=True)
                    self._look_at(_key(job), self._now() + job_status.FIRST_DELAY)
                    return
            else:
                self._notes.tell(job, "SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
                return

    def _delete(self, res: Resource, obj: Object) -> None:
        metadata = obj["metadata"]
        options = DeleteOptions(uid=metadata["uid"], propagation="Background")
        try:
            self._store.delete(res, metadata["namespace"], metadata["name"], options)
        except ApiError:  # gone already
            return

    def _named(self, group: str, plural: str) -> Resource:
        found = self._store.registry.find(group, "v1", plural)
        if found is None:
            raise LookupError(f"the registry offers no {plural}")
        return found


def _key(job: Object) -> Key:
    return job["metadata"]["namespace"], job["metadata"]["name"]


def _pod(job: Object, number: int) -> Object:
    """Return the Pod of one try; its name follows from Job and number, so that a repeated look makes no second one."""
    metadata, template = job["metadata"], job["spec"]["template"]
    given = template.get("metadata") or {}
    told = {
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
            "labels": {**(given.get("labels") or {}), **told},
            **({"annotations": given["annotations"]} if given.get("annotations") else {}),
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
