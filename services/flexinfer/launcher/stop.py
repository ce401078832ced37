"""Stopping an engine: read, delete by uid, list until no Pod is left, and only then write `Stopped`. May be cut off at any await.

Deleted is what was known before the reads that allow it; a list that shows another live Pod means that a new start took place, so the
decision is made again. The status carries the turn only if the SharedGroup, read before this stop began, was `Releasing`: a release that
begins later must see a stop of its own. The finalizer goes last, by the resourceVersion read before the list, so that nothing that
happened between the two is lost. A process that was paused deletes at most Pods whose uid it knew before the pause.
"""

import contextlib
import logging
from collections.abc import Sequence

from flexinfer.api import kube
from flexinfer.api.labels import MODEL_UID_LABEL, RUNNING_FINALIZER
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import object_name
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import PodFacts, pod_facts
from flexinfer.launcher import prompt_cache, status
from flexinfer.launcher.drain import renewal_cause
from flexinfer.launcher.effects import Purpose, Stop
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.manifests import STOP_SECONDS, LaunchSettings
from flexinfer.launcher.memory import EngineProbed
from flexinfer.launcher.overdue import overdue, subject
from flexinfer.launcher.pods_gone import PodsGone, Wait
from flexinfer.launcher.view import ModelView, group_names, view_of
from flexinfer.runtime.kubernetes.api import (
    MODELS,
    PODS,
    SHARED_GROUPS,
    ConflictError,
    InvalidError,
    NotFoundError,
    get_or_none,
)
from flexinfer.runtime.refetch import deletion_of
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)
_SHORTEST_POLL, _LONGEST_POLL = 0.01, 2.0
"""Seconds between two LISTs of a stop that nothing is observed of: the watch tells sooner when one is worth it."""
_DELETE_TRIES = 5
OVERDUE_POLL = 10.0
"""Seconds before each LIST of a stop that does not end."""


async def stop(
    runtime: Runtime, action: Stop, settings: LaunchSettings, pod_deletions: PodsGone, fences: Fences
) -> Sequence[AnyEvent | EngineProbed]:
    """Stop the engine, to the end; returns what the API server replied. Raises ApiError.

    Its prompt caches are saved before the reads that allow the stop: what takes seconds must not come between these and the deletion.
    """
    note = await _save_prompts(runtime, action)
    try:
        current = await _read(runtime, action)
    except NotFoundError:
        return [deletion_of(action.model)]
    event = events.ModelObserved(model=current.model)
    if current.model.uid != action.model.uid:
        return [deletion_of(action.model), event]
    if not _may_stop(action, current, settings) or not runtime.is_leader():
        return [event]
    began = runtime.clock()
    fences.deletes(action.key)
    for pod in action.pods:
        await _delete(runtime, action, pod)
    with pod_deletions.follow(action.model) as wait:
        pods = await _pods_left(runtime, action, current, wait)
    if pods is None:
        return [event]
    if live := [pod for pod in pods if not pod.metadata.deleting]:
        return [event, _still_there(action, live[-1])]
    if pods:
        return await _write_overdue(runtime, settings, current, pods[0])
    deletions = _deleted(action)
    if not current.stop_cause:
        return [*deletions, event]
    message = _stopped(action, began, runtime.clock()) + (f"; {note}" if note else "")
    return [*deletions, *await _write_stopped(runtime, settings, current, message)]


async def _read(runtime: Runtime, action: Stop) -> ModelView:
    """Read the SharedGroups whose devices the Model may hold, then the Model; this stop answers only what they say now. Raises ApiError."""
    meta, groups = action.model.metadata, []
    for name in group_names(action.model):
        with contextlib.suppress(NotFoundError):
            groups.append(await runtime.cluster.get(SHARED_GROUPS, meta.namespace, object_name(name)))
    return view_of(await runtime.cluster.get(MODELS, meta.namespace, meta.name), groups)


def _may_stop(action: Stop, current: ModelView, settings: LaunchSettings) -> bool:
    """Return whether the stop is still right by what was just read: the rule of stopping."""
    if not current.groups_known:  # what is seen at the first look at a group must not change meanwhile
        return current.model.deleting and not action.pods
    if current.stop_cause:
        return True
    match action.purpose:
        case Purpose.STOP:
            return False
        case Purpose.RENEW:
            return bool(action.pods) and bool(renewal_cause(current, action.pods[-1], settings))
        case Purpose.CLEAR:
            return current.ready.failed
        case Purpose.AWAIT:
            return True


async def _save_prompts(runtime: Runtime, action: Stop) -> str:
    """Have an engine that was Ready and is drained save its prompt caches; returns what was saved. Its Pod is read first."""
    pod = action.pods[-1] if action.pods else None
    if (
        pod is None
        or action.draining_since is None
        or action.force
        or pod.deleting
        or not prompt_cache.room(action.model)
    ):
        return ""
    current = await get_or_none(runtime.cluster, PODS, action.model.metadata.namespace, pod.name)
    facts = pod_facts(current) if current is not None else None
    if facts is None or facts.uid != pod.uid or facts.deleting:
        return ""
    return await prompt_cache.save(action.model, facts)


async def _delete(runtime: Runtime, action: Stop, pod: PodFacts) -> None:
    """Delete one Pod by its uid; another Pod of its name is left alone.

    By its resourceVersion too: a request that arrives late must not delete a Pod whose gate was opened since, or that is kept.
    Raises ConflictError if it is written each time before it is deleted.
    """
    if action.purpose is Purpose.AWAIT or (pod.deleting and not action.force):
        return
    namespace, version = action.model.metadata.namespace, str(pod.version)
    log.info("%s: deleting Pod %s (uid %s): %s", action.key, pod.name, pod.uid, action.cause)
    for _ in range(_DELETE_TRIES):
        with contextlib.suppress(ConflictError):
            await runtime.cluster.delete(
                PODS, namespace, pod.name, uid=pod.uid, version=version, grace=0 if action.force else None
            )
            return
        current = await get_or_none(runtime.cluster, PODS, namespace, pod.name)
        meta = current.metadata if current is not None else Metadata()
        if meta.uid != pod.uid or (meta.deleting and not action.force):
            return
        version = meta.resource_version
    raise ConflictError(f"Pod {pod.name} is written again and again: it was not deleted", 409)


async def _pods_left(
    runtime: Runtime, action: Stop, current: ModelView, wait: Wait
) -> Sequence[kube.Pod] | None:
    """List until no Pod of the Model is left; returns those that are left when the time is over, or at once if one does not terminate.

    That one is of a new start, or an API server restored from a backup has it again: the decision must be made again. None: this
    replica is no longer the leader. A stop that was
    reported as overdue looks once, after a pause: it is repeated.
    """
    repeated = bool(action.pods) and (
        action.purpose is Purpose.AWAIT or current.ready.reason == Reason.STOPPING
    )
    deadline, pause = runtime.clock() + (OVERDUE_POLL if repeated else STOP_SECONDS), _SHORTEST_POLL
    if repeated:
        await wait.until(runtime, OVERDUE_POLL)
    while True:
        pods = await _engine_pods(runtime, action)
        if any(not pod.metadata.deleting for pod in pods):
            return pods
        if not pods or ((repeated or runtime.clock() >= deadline) and runtime.is_leader()):
            return pods
        if not runtime.is_leader():
            return None
        await wait.until(runtime, pause)
        pause = min(2 * pause, _LONGEST_POLL)


async def _engine_pods(runtime: Runtime, action: Stop) -> Sequence[kube.Pod]:
    """List the Model's Pods by its uid alone, those of its Jobs left out: other labels may have been edited. Raises ApiError.

    One that has lost that label too is read by its name.
    """
    namespace, uid = action.model.metadata.namespace, action.model.uid
    listing = await runtime.cluster.list(PODS, namespace, labels=f"{MODEL_UID_LABEL}={uid}")
    pods = [pod for pod in listing.items if not any(o.kind == "Job" for o in pod.metadata.owner_references)]
    for facts in action.pods:
        if facts.unlabelled:
            with contextlib.suppress(NotFoundError):
                pod = await runtime.cluster.get(PODS, namespace, facts.name)
                pods += [pod] if pod.metadata.uid == facts.uid else []
    return pods


def _still_there(action: Stop, pod: kube.Pod) -> EngineProbed:
    """Return what a list has shown, whatever was known of this Pod: it may have been seen to terminate, or to be gone, in a former life."""
    facts = pod_facts(pod)
    return EngineProbed(key=action.key, uid=action.model.uid, pod_uid=facts.uid, healthy=False, pod=facts)


def _stopped(action: Stop, began: float, now: float) -> str:
    if not action.pods:
        return "stopped: no Pod is left"
    drain = f"{began - action.draining_since:.1f}s of drain and " if action.draining_since is not None else ""
    return f"stopped: Pod {action.pods[-1].name} deleted after {drain}{now - began:.1f}s of termination"


async def _write_overdue(
    runtime: Runtime, settings: LaunchSettings, current: ModelView, pod: kube.Pod
) -> Sequence[AnyEvent]:
    """Write what holds a Pod that does not go: as `Stopping`, or beside a failure, which stays reported."""
    if current.stop_cause or not current.ready.failed:
        return await _write(runtime, settings, current, Reason.STOPPING, overdue(pod))
    failure = current.ready.message.partition(f"; {subject(pod)}")[0]
    reason, message = Reason(current.ready.reason), f"{failure}; {overdue(pod)}"
    write = status.not_ready(current, settings, reason, message, current.backend, status.RUN_GATES)
    return await _written(runtime, current, write)


def _deleted(action: Stop) -> list[EngineProbed]:
    return [
        EngineProbed(
            key=action.key,
            uid=action.model.uid,
            pod_uid=pod.uid,
            healthy=False,
            gone=True,
            version=pod.version,
        )
        for pod in action.pods[-1:]
    ]


async def _write(
    runtime: Runtime, settings: LaunchSettings, current: ModelView, reason: Reason, message: str
) -> Sequence[AnyEvent]:
    """Write how the stop ended; Stopped carries the turn, if that was asked back before this stop began."""
    turn = current.release_turn if reason is Reason.STOPPED else 0
    backend = status.returned(current, turn) if turn else status.no_engine(current)
    write = status.not_ready(current, settings, reason, message, backend, status.STOP_GATES)
    return await _written(runtime, current, write)


async def _written(runtime: Runtime, current: ModelView, write: WriteStatus | None) -> Sequence[AnyEvent]:
    """Carry out a write; without one the Model is as it was read."""
    return (
        [events.ModelObserved(model=current.model)] if write is None else await write_status(runtime, write)
    )


async def _write_stopped(
    runtime: Runtime, settings: LaunchSettings, current: ModelView, message: str
) -> Sequence[AnyEvent]:
    """Write Stopped; a Model that is being deleted loses its finalizer before, and is gone then unless others keep it. Raises as `_remove_finalizer`."""
    if current.model.deleting:
        latest = await _remove_finalizer(runtime, current.model)
        if latest is None:
            return [deletion_of(current.model)]
        current = view_of(latest, current.groups)
        others = ", ".join(latest.metadata.finalizers)
        message = f"{message}; the Model stays until the controllers of its other finalizers have removed them: {others}"
    return await _write(runtime, settings, current, Reason.STOPPED, message)


async def _remove_finalizer(runtime: Runtime, model: Model) -> Model | None:
    """Remove the finalizer by the resourceVersion read before the list; returns the Model if others keep it. Raises ConflictError if it was written since."""
    meta = model.metadata
    if RUNNING_FINALIZER not in meta.finalizers:
        return model
    rest = [name for name in meta.finalizers if name != RUNNING_FINALIZER]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
        {"op": "replace", "path": "/metadata/finalizers", "value": rest},
    ]
    try:
        latest = await runtime.cluster.patch(MODELS, meta.namespace, meta.name, operations)
    except InvalidError as error:
        raise ConflictError(f"{meta.key} was written during its stop: {error}", 409) from error
    return latest if rest else None
