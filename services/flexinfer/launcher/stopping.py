"""The stop: read, delete by uid, list until nothing is left, and only then say `Stopped`.

What is deleted is what was known before the reads that condemn it; a list that shows another live Pod means that somebody started anew, so
the decision is made anew. The report carries the turn only if the Lease, read before this stop began, asked for it back. The finalizer goes
last, by the resourceVersion read before the list.
"""

from collections.abc import Sequence

from flexinfer.api import conditions
from flexinfer.api.labels import COMPONENT_LABEL, MODEL_UID_LABEL, RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import ReadyStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import GroupLease, PodFacts, group_lease
from flexinfer.launcher import rules
from flexinfer.launcher.decide import CLEAR, RENEW, STOP, Stop
from flexinfer.launcher.manifests import ENGINE, GRACE_SECONDS, LaunchSettings
from flexinfer.launcher.memory import EngineProbed
from flexinfer.runtime.kubernetes.api import LEASES, MODELS, PODS, ConflictError, InvalidError, NotFoundError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import model_deleted, write_status
from flexinfer.state import actions

_FIRST_LOOK, _LONGEST_LOOK = 0.01, 0.25
_PATIENCE = GRACE_SECONDS + 30.0
GATES = (conditions.WANTED, conditions.GRANTED, conditions.PLACED)


async def stop(runtime: Runtime, action: Stop, settings: LaunchSettings) -> Sequence[AnyEvent | EngineProbed]:
    """Stop what the action names, to the end; returns what the API replied."""
    leases = await _leases(runtime, action.model)
    try:
        fresh = await runtime.cluster.get(MODELS, action.model.metadata.namespace, action.model.metadata.name)
    except NotFoundError:
        return [model_deleted(action.model)]
    if fresh.uid != action.model.uid:
        return [model_deleted(action.model), events.ModelObserved(model=fresh)]
    why = _still(action, fresh, leases, settings)
    if not why or not runtime.is_leader():
        return [events.ModelObserved(model=fresh)]
    for pod in action.pods:
        await _delete(runtime, fresh, pod, force=action.force)
    if not await _emptied(runtime, fresh, {pod.uid for pod in action.pods}):
        return [events.ModelObserved(model=fresh)]
    gone = [_gone(fresh, pod) for pod in action.pods[-1:]]
    if not rules.stop_reason(fresh, leases):
        return [*gone, events.ModelObserved(model=fresh)]
    if fresh.deleting:
        return [*gone, *await _let_go(runtime, fresh)]
    return [*gone, *await _say_stopped(runtime, fresh, rules.releasing(fresh, leases), why)]


def _still(action: Stop, fresh: Model, leases: Sequence[GroupLease], settings: LaunchSettings) -> str:
    """Return why the stop is still right by what was just read, or nothing."""
    why = rules.stop_reason(fresh, leases)
    if why or action.purpose == STOP:
        return why
    if action.purpose == RENEW and action.pods:
        return rules.renewal(fresh, action.pods[-1], settings)
    ready = fresh.condition(conditions.READY)
    failed = ready is not None and ready.reason in (Reason.BACK_OFF, Reason.LOADING_TIMEOUT)
    return action.why if action.purpose == CLEAR and failed else ""


async def _leases(runtime: Runtime, model: Model) -> list[GroupLease]:
    found = []
    for name in rules.lease_names(model):
        try:
            lease = group_lease(await runtime.cluster.get(LEASES, model.metadata.namespace, name))
        except NotFoundError:
            continue
        found += [lease] if lease is not None else []
    return found


async def _delete(runtime: Runtime, model: Model, pod: PodFacts, *, force: bool) -> None:
    """Delete one Pod by its uid; another one of its name is somebody else's business."""
    if pod.deleting and not force:
        return
    try:
        await runtime.cluster.delete(
            PODS, model.metadata.namespace, pod.name, uid=pod.uid, grace=0 if force else None
        )
    except ConflictError:
        return


async def _emptied(runtime: Runtime, model: Model, known: set[str]) -> bool:
    """Wait until a consistent list shows none of the Model's Pods; False when it shows another live one, or time is over."""
    labels = f"{MODEL_UID_LABEL}={model.uid},{COMPONENT_LABEL}={ENGINE}"
    until, pause = runtime.clock() + _PATIENCE, _FIRST_LOOK
    while True:
        there = (await runtime.cluster.list(PODS, model.metadata.namespace, labels=labels)).items
        if not there:
            return True
        if any(p.metadata.uid not in known and p.metadata.deletion_timestamp is None for p in there):
            return False
        if runtime.clock() >= until or not runtime.is_leader():
            return False
        await runtime.sleep(pause)
        pause = min(2 * pause, _LONGEST_LOOK)


async def _say_stopped(runtime: Runtime, fresh: Model, turn: int, why: str) -> Sequence[AnyEvent]:
    """Say that nothing runs; with the turn, if that was asked back before this stop began."""
    told = fresh.status.backend or BackendStatus()
    verdict = actions.condition(
        fresh,
        conditions.READY,
        conditions.FALSE,
        Reason.STOPPED,
        f"the engine has stopped and its Pod is gone: {why}",
    )
    backend = BackendStatus(load_seconds=told.load_seconds, restarts=told.restarts, turn=turn)
    status = ReadyStatus(condition=verdict, endpoint=fresh.status.endpoint, backend=backend)
    made = actions.write_if_changed(fresh, status, GATES)
    return await write_status(runtime, made) if made is not None else [events.ModelObserved(model=fresh)]


async def _let_go(runtime: Runtime, fresh: Model) -> Sequence[AnyEvent]:
    """Take the finalizer off, by the resourceVersion read before the list."""
    meta = fresh.metadata
    if RUNNING_FINALIZER not in meta.finalizers:
        return [events.ModelObserved(model=fresh)]
    rest = [name for name in meta.finalizers if name != RUNNING_FINALIZER]
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
        {"op": "replace", "path": "/metadata/finalizers", "value": rest},
    ]
    try:
        await runtime.cluster.patch(MODELS, meta.namespace, meta.name, operations)
    except InvalidError as error:
        raise ConflictError(f"{meta.key} was written meanwhile: {error}", 409) from error
    return [] if rest else [model_deleted(fresh)]


def _gone(model: Model, pod: PodFacts) -> EngineProbed:
    return EngineProbed(uid=model.uid, pod_uid=pod.uid, healthy=False, detail=rules.GONE)
