"""What another client removed from a Model or its Pod while the engine runs is put back, and an Event says so."""

import logging
from collections.abc import Sequence

from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.launcher.effects import Protect, Relabel
from flexinfer.launcher.expose import remark
from flexinfer.launcher.manifests import ENGINE
from flexinfer.launcher.start import put_finalizer, read_model
from flexinfer.runtime.kubernetes.api import PODS, ConflictError, InvalidError
from flexinfer.runtime.runtime import Runtime
from flexinfer.runtime.status_writer import record_transition
from flexinfer.sources import pod

log = logging.getLogger(__name__)


async def protect(runtime: Runtime, action: Protect) -> Sequence[AnyEvent]:
    """Put the finalizer back. Raises ApiError."""
    await put_finalizer(runtime, action.model)
    _say(
        runtime,
        action.model,
        f"finalizer {RUNNING_FINALIZER} was removed while the engine runs; it was added again",
    )
    return [events.ModelObserved(model=await read_model(runtime, action.model))]


async def relabel(runtime: Runtime, action: Relabel) -> Sequence[AnyEvent]:
    """Put the labels of a Pod back. Raises ConflictError if another Pod has its name by now, ApiError."""
    namespace, name = action.model.metadata.namespace, action.pod.name
    labels = pod.labels(action.model, ENGINE, "launcher")
    body = {"metadata": {"uid": action.pod.uid, "labels": labels}}
    try:
        await runtime.cluster.merge(PODS, namespace, name, body)
    except InvalidError as error:
        raise ConflictError(f"Pod {name} is another one: {error}", 409) from error
    _say(runtime, action.model, f"labels of Pod {name} were changed; they are as before")
    return ()


def _say(runtime: Runtime, model: Model, message: str) -> None:
    log.warning("%s: %s", model.key, message)
    runtime.spawn_background(record_transition(runtime, model, remark(model, message)))
