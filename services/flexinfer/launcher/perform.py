"""Starting, stopping and saying so: effects that read what they act on before they act, and may be cut off at any await.

A start in three steps (DESIGN 6, step 6), each of which a successor can go on from:
  (1) the finalizer, and beside it the Pod with the gate of its turn: while gated it holds nothing;
  (2) then, and only then, the Model and its group's Lease are read: still this uid, wanted, and this turn granted;
  (3) the gate is opened by a patch that tests the Pod's uid and the gate's name.
A release that begins after (2) deletes the Pod of (1), so (3) is refused, whatever any clock says.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from flexinfer.api import conditions, kube
from flexinfer.api.labels import (
    LITELLM_PREFIX,
    MODEL_LABEL,
    MODEL_UID_LABEL,
    RUNNING_FINALIZER,
    SERVICE_LABELS_ANNOTATION,
    TEMPLATE_ANNOTATION,
    TURN_LABEL,
)
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import ReadyStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import GRANTED, GroupLease, group_lease, pod_facts
from flexinfer.launcher import rules
from flexinfer.launcher.decide import Announce, Effect, Expose, Start, Stop
from flexinfer.launcher.manifests import (
    LaunchSettings,
    Template,
    endpoint,
    engine_pod,
    gate,
    pod_name,
    service,
    template,
)
from flexinfer.launcher.memory import EngineProbed
from flexinfer.launcher.stopping import stop
from flexinfer.runtime.kubernetes.api import (
    LEASES,
    MODELS,
    PODS,
    SERVICES,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.settings import Settings
from flexinfer.runtime.status_writer import write_status
from flexinfer.state import actions
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)
_FINALIZER_TRIES = 5


class NameTakenError(Exception):
    """An object of the needed name belongs to somebody else."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(
            f"a {kind} named {name} is there already and is not of this Model; "
            f"delete it (`kubectl delete {kind.lower()} {name}`) or give the Model another name"
        )


def settings_of(settings: Settings) -> LaunchSettings:
    """Return what of the settings shapes a start."""
    return LaunchSettings(
        proxy_base_url=settings.proxy_base_url.rstrip("/"),
        cluster_domain=settings.cluster_domain,
        drain_seconds=settings.drain_seconds,
        loading_seconds=settings.loading_seconds,
        image=settings.image,
        hf_endpoint=settings.hf_endpoint,
        images=settings.images,
    )


async def perform(runtime: Runtime, action: Effect) -> Sequence[AnyEvent | EngineProbed]:
    """Carry out one action; returns what the API replied. Raises ApiError."""
    settings = settings_of(runtime.settings)
    match action:
        case Start():
            return await _start(runtime, action, settings)
        case Stop():
            return await stop(runtime, action, settings)
        case Expose(report=told):
            return await _exposed(runtime, told, settings)
        case Announce(report=told):
            return await _announced(runtime, told)


# --- starting


async def _start(
    runtime: Runtime, action: Start, settings: LaunchSettings
) -> Sequence[AnyEvent | EngineProbed]:
    model, made = action.model, template(action.model, settings)
    if made is None:
        return ()
    try:
        if not _service_known(model):
            await _ensure_service(runtime, model, settings)
        _, pod = await asyncio.gather(
            _put_finalizer(runtime, model), _put_pod(runtime, model, action.turn, made)
        )
    except NameTakenError as error:
        return await _refused(runtime, model, settings, Reason.NAME_TAKEN, str(error))
    except (InvalidError, ForbiddenError) as error:
        return await _refused(
            runtime, model, settings, Reason.CREATE_REFUSED, f"the API server refuses it: {error}"
        )
    if pod is None:
        return [events.ModelObserved(model=await _model(runtime, model))]
    fresh, lease = await _look(runtime, model)
    seen: list[AnyEvent | EngineProbed] = [events.ModelObserved(model=fresh), _known(model, pod)]
    if not _may_start(runtime, action, fresh, lease) or template(fresh, settings) != made:
        return seen
    opened = await _open_gate(runtime, pod, action.turn)
    return [seen[0], _known(model, opened)]


def _service_known(model: Model) -> bool:
    """Tell whether the Service was seen to since anybody found its name taken."""
    ready = model.condition(conditions.READY)
    return ready is None or ready.reason != Reason.NAME_TAKEN


async def _put_finalizer(runtime: Runtime, model: Model) -> None:
    """Keep the Model from vanishing before its engine; a Model that is being deleted takes none, which the next read shows."""
    for _ in range(_FINALIZER_TRIES):
        meta = model.metadata
        if RUNNING_FINALIZER in meta.finalizers or model.deleting:
            return
        tests: list[Any] = [{"op": "test", "path": "/metadata/uid", "value": meta.uid}]
        if meta.finalizers:
            add: Any = {"op": "add", "path": "/metadata/finalizers/-", "value": RUNNING_FINALIZER}
        else:  # an empty list cannot be tested for, and `add` would put ours in place of somebody's
            tests.append({"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version})
            add = {"op": "add", "path": "/metadata/finalizers", "value": [RUNNING_FINALIZER]}
        try:
            await runtime.cluster.patch(MODELS, meta.namespace, meta.name, [*tests, add])
        except (InvalidError, ConflictError):
            fresh = await _model(runtime, model)
            if fresh.uid != model.uid:
                return
            model = fresh
        else:
            return


async def _put_pod(runtime: Runtime, model: Model, turn: int, made: Template) -> kube.Pod | None:
    """Return the Pod of this turn, made now or by a predecessor; None when something else was, or is, in its place."""
    namespace = model.metadata.namespace
    try:
        return await runtime.cluster.create(PODS, namespace, engine_pod(model, turn, made))
    except AlreadyExistsError:
        pass
    try:
        there = await runtime.cluster.get(PODS, namespace, pod_name(model))
    except NotFoundError:
        return None
    labels, notes = there.metadata.labels, there.metadata.annotations
    if MODEL_UID_LABEL not in labels or labels.get(MODEL_LABEL) != model.metadata.name:
        raise NameTakenError("Pod", pod_name(model))
    ours = (labels[MODEL_UID_LABEL], labels.get(TURN_LABEL)) == (model.uid, str(turn))
    if ours and notes.get(TEMPLATE_ANNOTATION) == made.digest and there.metadata.deletion_timestamp is None:
        return there
    await _make_room(runtime, model, turn, there)
    return None


async def _make_room(runtime: Runtime, model: Model, turn: int, there: kube.Pod) -> None:
    """Delete a Pod of a former turn, template or Model, if reads made after it was seen still grant this turn to this uid."""
    if there.metadata.deletion_timestamp is not None:
        return
    fresh, lease = await _look(runtime, model)
    if fresh.uid == model.uid and not fresh.deleting and _holds_turn(fresh, turn, lease):
        log.info("%s: deleting the Pod %s, which is of a former start", model.key, there.metadata.uid)
        await runtime.cluster.delete(
            PODS, there.metadata.namespace, there.metadata.name, uid=there.metadata.uid
        )


async def _open_gate(runtime: Runtime, pod: kube.Pod, turn: int) -> kube.Pod:
    """Open the gate of this turn, or find it open; a Pod that was deleted meanwhile refuses."""
    gates = [g.name for g in pod.spec.scheduling_gates]
    if gate(turn) not in gates:
        return pod
    place = f"/spec/schedulingGates/{gates.index(gate(turn))}"
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": pod.metadata.uid},
        {"op": "test", "path": f"{place}/name", "value": gate(turn)},
        {"op": "remove", "path": place},
    ]
    try:
        return await runtime.cluster.patch(PODS, pod.metadata.namespace, pod.metadata.name, operations)
    except InvalidError as error:
        raise ConflictError(f"the gate of {pod.metadata.name} is not as it was: {error}", 409) from error


def _may_start(runtime: Runtime, action: Start, fresh: Model, lease: GroupLease | None) -> bool:
    return (
        fresh.uid == action.model.uid
        and fresh.metadata.generation == action.model.metadata.generation
        and rules.open_gates(fresh)
        and RUNNING_FINALIZER in fresh.metadata.finalizers
        and _holds_turn(fresh, action.turn, lease)
        and runtime.is_leader()
    )


def _holds_turn(fresh: Model, turn: int, lease: GroupLease | None) -> bool:
    """Tell whether the group's Lease grants this turn to this uid; who shares with nobody needs none."""
    if not fresh.spec.group:
        return turn == 0
    return (
        lease is not None and lease.step == GRANTED and lease.holder_uid == fresh.uid and lease.turn == turn
    )


async def _look(runtime: Runtime, model: Model) -> tuple[Model, GroupLease | None]:
    """Read the Model and its group's Lease, side by side."""
    if not model.spec.group:
        return await _model(runtime, model), None
    return await asyncio.gather(_model(runtime, model), _lease(runtime, model))


async def _lease(runtime: Runtime, model: Model) -> GroupLease | None:
    name = rules.lease_names(model)[0]
    try:
        return group_lease(await runtime.cluster.get(LEASES, model.metadata.namespace, name))
    except NotFoundError:
        return None


async def _model(runtime: Runtime, model: Model) -> Model:
    return await runtime.cluster.get(MODELS, model.metadata.namespace, model.metadata.name)


def _known(model: Model, pod: kube.Pod) -> EngineProbed:
    return EngineProbed(uid=model.uid, pod_uid=pod.metadata.uid, healthy=False, pod=pod_facts(pod))


# --- saying it


async def _announced(runtime: Runtime, told: WriteStatus) -> Sequence[AnyEvent]:
    """Write the report and, if the engine answers from now on, tell the proxies."""
    replies = await write_status(runtime, told)
    former = told.model.condition(conditions.READY)
    if told.condition.true and not (former is not None and former.true) and _written(replies, told):
        meta = told.model.metadata
        await runtime.bus.publish(events.EngineReady(namespace=meta.namespace, name=meta.name, uid=meta.uid))
    return replies


def _written(replies: Sequence[AnyEvent], told: WriteStatus) -> bool:
    return any(
        isinstance(reply, events.ModelObserved)
        and conditions.same(reply.model.condition(conditions.READY), told.condition)
        for reply in replies
    )


async def _exposed(runtime: Runtime, told: WriteStatus, settings: LaunchSettings) -> Sequence[AnyEvent]:
    """See to the Service, then write the report."""
    try:
        await _ensure_service(runtime, told.model, settings)
    except NameTakenError as error:
        if not told.condition.true:
            return await _refused(runtime, told.model, settings, Reason.NAME_TAKEN, str(error))
        log.warning("%s: %s", told.model.key, error)
    return await _announced(runtime, told)


async def _ensure_service(runtime: Runtime, model: Model, settings: LaunchSettings) -> None:
    """Make the Service, or bring ours up to date; another's is left alone."""
    body = service(model, settings)
    namespace, name = model.metadata.namespace, model.metadata.name
    try:
        await runtime.cluster.create(SERVICES, namespace, body)
    except AlreadyExistsError:
        there = await runtime.cluster.get(SERVICES, namespace, name)
        owner = there.metadata.labels.get(MODEL_UID_LABEL)
        if owner is None or there.metadata.labels.get(MODEL_LABEL) != name:
            raise NameTakenError("Service", name) from None
        if owner != model.uid:
            await _succeed(runtime, model, there)
            return
        wanted, found = body["metadata"]["annotations"], there.metadata.annotations
        if found.get(TEMPLATE_ANNOTATION) == wanted[TEMPLATE_ANNOTATION]:
            return
        stale = {key: None for key in found if _managed(key) and key not in wanted}
        change = {
            "metadata": {
                "uid": there.metadata.uid,
                "resourceVersion": there.metadata.resource_version,
                "annotations": wanted | stale,
            },
            "spec": body["spec"],
        }
        await runtime.cluster.merge(SERVICES, namespace, name, change)


async def _succeed(runtime: Runtime, model: Model, there: kube.Service) -> None:
    """Put away the Service of a former Model of this name, which the garbage collector has not reached yet; the next try makes ours."""
    fresh = await _model(runtime, model)
    if fresh.uid == model.uid and not fresh.deleting:
        meta = there.metadata
        await runtime.cluster.delete(SERVICES, meta.namespace, meta.name, uid=meta.uid)
    raise ConflictError(f"the Service {there.metadata.name} is of a former Model of that name", 409)


def _managed(annotation: str) -> bool:
    return annotation.startswith(f"{LITELLM_PREFIX}/") or annotation == SERVICE_LABELS_ANNOTATION


async def _refused(
    runtime: Runtime, model: Model, settings: LaunchSettings, reason: str, message: str
) -> Sequence[AnyEvent]:
    """Say why an object could not be made."""
    told = actions.write_if_changed(
        model,
        ReadyStatus(
            condition=actions.condition(model, conditions.READY, conditions.FALSE, reason, message),
            endpoint=endpoint(model, settings),
            backend=model.status.backend or BackendStatus(),
        ),
    )
    return await write_status(runtime, told) if told is not None else ()
