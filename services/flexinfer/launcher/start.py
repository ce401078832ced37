"""Starting an engine: its finalizer, its Pod, and the gate that lets the Pod be scheduled. May be cut off at any await.

Three steps (DESIGN 6, step 6), after each of which a successor can continue:
  (1) the finalizer, and beside it the Pod with the gate of its turn: while gated it holds no device;
  (2) then, and only then, the Model is read: still this uid and generation, and wanted. In a shared group it is written instead, with
      the resourceVersion that (1) returned: `status.backend` names this Pod as the one of its turn. Beside it the SharedGroup is read:
      still this turn granted;
  (3) the ResourceClaim of the Pod is created, if it names one (`claim`), and the gate is removed by a patch that tests the Pod's uid and the
      gate's name.
A release that begins after (2) deletes the Pod of (1), so that (3) is refused, whatever any clock says. A process that was paused
anywhere in here leaves at most a gated Pod, or a patch that no longer applies.
"""

import logging
from collections.abc import Mapping, Sequence

from flexinfer.api import kube
from flexinfer.api.conditions import clause
from flexinfer.api.labels import (
    RUNNING_FINALIZER,
    TEMPLATE_ANNOTATION,
    TURN_LABEL,
)
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import SharedGroup, is_turn, object_name
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import model_name, model_uid, pod_facts
from flexinfer.launcher import status
from flexinfer.launcher.claim import put_claim
from flexinfer.launcher.effects import NameTakenError, NotCreatedError, Start
from flexinfer.launcher.expose import ensure_service
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.manifests import LaunchSettings, gate, template
from flexinfer.launcher.memory import EngineProbed
from flexinfer.launcher.view import ModelView, view_of
from flexinfer.runtime.kubernetes.api import (
    MODELS,
    PODS,
    SHARED_GROUPS,
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    get_or_none,
)
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import write_status_once
from flexinfer.runtime.together import both

log = logging.getLogger(__name__)
_FINALIZER_TRIES = 5


async def start(
    runtime: Runtime, action: Start, settings: LaunchSettings, fences: Fences
) -> Sequence[AnyEvent | EngineProbed]:
    """Create the Pod of a turn and open its gate; returns what the API server replied. Raises NotCreatedError, ApiError."""
    prepared_model, pod = await _prepare(runtime, action, settings)
    if pod is None:
        return [events.ModelObserved(model=await read_model(runtime, action.model))]
    # Read after the Pod exists, never before: a release that these reads miss will find the Pod and delete it.
    current = await _confirm(runtime, action, prepared_model, pod, settings)
    if _may_open(action, current, pod.metadata.uid, settings) and runtime.is_leader():
        await put_claim(runtime, current.model, pod)
        if runtime.is_leader():
            pod = await _open_gate(runtime, action, pod, fences)
    facts = pod_facts(pod)
    probe = EngineProbed(key=action.key, uid=action.model.uid, pod_uid=facts.uid, healthy=False, pod=facts)
    return [events.ModelObserved(model=current.model), probe]


def _may_open(action: Start, current: ModelView, pod_uid: str, settings: LaunchSettings) -> bool:
    """Return whether the start is still right by what was just read: the rule of starting."""
    return (
        current.model.uid == action.model.uid
        and current.model.metadata.generation == action.model.metadata.generation
        and current.gates_open
        and RUNNING_FINALIZER in current.model.metadata.finalizers
        and current.held_turn == action.turn
        and (not action.turn or current.turn_pod == pod_uid)
        and _renders(current.model, action, settings)
        and current.memory_checked
    )


def _renders(model: Model, action: Start, settings: LaunchSettings) -> bool:
    """Return whether a Model, as it was just read, asks for the Pod template of a start."""
    pod_template = template(model, settings)
    return pod_template is not None and pod_template.digest == action.template


async def _prepare(
    runtime: Runtime, action: Start, settings: LaunchSettings
) -> tuple[Model, kube.Pod | None]:
    """Step (1), finalizer and Pod side by side; returns the Model, and the gated Pod, None if it could not be created yet."""
    try:
        if action.service is not None:
            await ensure_service(runtime, action.model, action.service)
        model, pod = await both(put_finalizer(runtime, action.model), _put_pod(runtime, action, settings))
    except (InvalidError, ForbiddenError) as error:
        message = f"the API server rejected it: {clause(str(error))}"
        raise NotCreatedError(action.model, Reason.CREATE_REFUSED, message) from error
    return model, pod


async def _confirm(
    runtime: Runtime, action: Start, prepared_model: Model, pod: kube.Pod, settings: LaunchSettings
) -> ModelView:
    """Step (2): return the Model and its SharedGroup after the Pod was created. Raises ConflictError if the Model was written since (1)."""
    if not action.model.spec.group:
        return await _read(runtime, action)
    model, group = await both(
        _name_pod(runtime, action, prepared_model, pod, settings), _read_group(runtime, action)
    )
    return view_of(model, [group])


async def _name_pod(
    runtime: Runtime, action: Start, model: Model, pod: kube.Pod, settings: LaunchSettings
) -> Model:
    """Write into `status.backend` that this Pod is the one of its turn; returns the Model as it is then.

    A turn that names another Pod already is over: its Pod is gone, and its memory must be seen free before the next one loads. A later turn is
    never replaced; a number that cannot be one was written by another client.
    """
    view, uid = view_of(model), pod.metadata.uid
    later = view.backend.turn > action.turn and is_turn(view.backend.turn, action.turn)
    if model.uid != action.model.uid or model.deleting or later:
        return model
    if view.backend.turn == action.turn and view.backend.pod_uid == uid:
        return model
    over = view.backend.turn == action.turn
    reason = Reason.STOPPED if over else Reason.STARTING
    message = status.TURN_OVER if over else status.WAITING_FOR_SCHEDULER
    backend = status.no_engine(view) if over else status.opening(view, action.turn, uid)
    write = status.not_ready(view, settings, reason, message, backend)
    return model if write is None else await write_status_once(runtime, write)


async def put_finalizer(runtime: Runtime, previous: Model) -> Model:
    """Keep the Model from being deleted before its engine; returns it as it was last returned.

    One that is being deleted gets none, which the next step shows.
    """
    model = previous
    for _ in range(_FINALIZER_TRIES):
        meta = model.metadata
        if RUNNING_FINALIZER in meta.finalizers or model.deleting:
            return model
        try:
            return await runtime.cluster.patch(MODELS, meta.namespace, meta.name, _finalizer_patch(model))
        except (InvalidError, ConflictError):
            model = await read_model(runtime, previous)
            if model.uid != previous.uid:
                return model
    return model


def _finalizer_patch(model: Model) -> Sequence[Mapping[str, object]]:
    """Return the JSON patch that adds the finalizer to this uid.

    An empty list cannot be tested for, and `add` would replace the list that another client has put there meanwhile: the
    resourceVersion is tested instead.
    """
    meta = model.metadata
    uid = {"op": "test", "path": "/metadata/uid", "value": meta.uid}
    if meta.finalizers:
        return [uid, {"op": "add", "path": "/metadata/finalizers/-", "value": RUNNING_FINALIZER}]
    version = {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
    return [uid, version, {"op": "add", "path": "/metadata/finalizers", "value": [RUNNING_FINALIZER]}]


async def _put_pod(runtime: Runtime, action: Start, settings: LaunchSettings) -> kube.Pod | None:
    """Return the Pod of this turn, created now or by a predecessor; None if another one has its name.

    Raises NameTakenError if that one does not belong to a Model of this name.
    """
    namespace, name = action.pod["metadata"]["namespace"], action.pod["metadata"]["name"]
    try:
        return await runtime.cluster.create(PODS, namespace, action.pod)
    except AlreadyExistsError:
        pass
    existing = await get_or_none(runtime.cluster, PODS, namespace, name)
    if existing is None:
        return None
    if not model_uid(existing.metadata) or model_name(existing.metadata) != action.model.metadata.name:
        raise NameTakenError(action.model, "Pod", name)
    if _is_of(existing, action):
        return existing
    await _make_room(runtime, action, existing, settings)
    return None


def _is_of(pod: kube.Pod, action: Start) -> bool:
    """Return whether a Pod is the one that this start creates: of this uid, turn and template, and not terminating."""
    labels, annotations = pod.metadata.labels, pod.metadata.annotations
    return (
        (model_uid(pod.metadata), labels.get(TURN_LABEL, "0")) == (action.model.uid, str(action.turn))
        and annotations.get(TEMPLATE_ANNOTATION) == action.template
        and not pod.metadata.deleting
    )


async def _make_room(runtime: Runtime, action: Start, existing: kube.Pod, settings: LaunchSettings) -> None:
    """Delete a Pod of another turn, template or Model, if reads made after it was seen still ask for this turn and template of this uid.

    A process that was paused may hold a turn that is over, or a template: without these reads it would delete the Pod of its successor.
    """
    meta = existing.metadata
    if meta.deleting:
        return
    current = await _read(runtime, action)
    if (
        current.model.uid == action.model.uid
        and not current.model.deleting
        and current.held_turn == action.turn
        and _renders(current.model, action, settings)
    ):
        log.info("%s: deleting Pod %s (uid %s) of an earlier start", action.key, meta.name, meta.uid)
        await runtime.cluster.delete(
            PODS, meta.namespace, meta.name, uid=meta.uid, version=meta.resource_version
        )


async def _open_gate(runtime: Runtime, action: Start, pod: kube.Pod, fences: Fences) -> kube.Pod:
    """Step (3): remove the gate of this turn, unless it is removed already. Raises ConflictError if the Pod was deleted meanwhile."""
    gates, name = [g.name for g in pod.spec.scheduling_gates], gate(action.turn)
    if name not in gates:
        return pod
    path = f"/spec/schedulingGates/{gates.index(name)}"
    operations = [
        {"op": "test", "path": "/metadata/uid", "value": pod.metadata.uid},
        {"op": "test", "path": f"{path}/name", "value": name},
        {"op": "remove", "path": path},
    ]
    try:
        current = await runtime.cluster.patch(PODS, pod.metadata.namespace, pod.metadata.name, operations)
    except InvalidError as error:
        raise ConflictError(
            f"Pod {pod.metadata.name} changed before its gate opened: {error}", 409
        ) from error
    fences.wrote(action.key, pod.metadata.uid)
    return current


async def _read(runtime: Runtime, action: Start) -> ModelView:
    """Read the Model and its SharedGroup, side by side. Raises ApiError."""
    if not action.model.spec.group:
        return view_of(await read_model(runtime, action.model))
    model, group = await both(read_model(runtime, action.model), _read_group(runtime, action))
    return view_of(model, [group])


async def _read_group(runtime: Runtime, action: Start) -> SharedGroup | None:
    meta, name = action.model.metadata, object_name(action.model.spec.group)
    return await get_or_none(runtime.cluster, SHARED_GROUPS, meta.namespace, name)


async def read_model(runtime: Runtime, model: Model) -> Model:
    """Return the Model that has the name of another now. Raises ApiError."""
    meta = model.metadata
    return await runtime.cluster.get(MODELS, meta.namespace, meta.name)
