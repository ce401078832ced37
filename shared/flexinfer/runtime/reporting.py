"""Reporting: an owner's verdict becomes status, and then a hint, an Event and a line of history beside the path.

Server-side apply on the status subresource, always with the owner's full set and with the resourceVersion that it was
decided from: the API server ignores uid on `/status` of a custom resource, so only the version keeps a write that was meant
for a deleted Model off its namesake.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from flexinfer.contracts import conditions, events, keys
from flexinfer.contracts.actions import Moment, Report
from flexinfer.contracts.conditions import Condition
from flexinfer.contracts.events import AnyEvent
from flexinfer.contracts.model import Model
from flexinfer.runtime.api import EVENTS, MODELS, ApiError, ConflictError, NotFoundError
from flexinfer.runtime.runtime import Runtime

log = logging.getLogger(__name__)
_JITTER_SECONDS = 0.02
_EVENT_SECONDS = 0.1
"""How long an Event lets the hand-over go first: others read the Model in the moment after its status was written."""
_PATIENT_TRIES = 2
_TRIES = 20
_ALARMING = keys.FINAL_REASONS | {
    keys.R_NO_NODE_FITS,
    keys.R_NODE_GONE,
    keys.R_BACK_OFF,
    keys.R_RESTARTING,
    keys.R_IMAGE_PULL_FAILED,
    keys.R_FETCH_FAILED,
    keys.R_CLAIM_NOT_FOUND,
    keys.R_BLOCKED,
    keys.R_NODE_UNREACHABLE,
    keys.R_CREATE_REFUSED,
}


async def report(
    runtime: Runtime, action: Report, *, former: Mapping[str, Sequence[str]] = keys.FORMER_MANAGERS
) -> list[AnyEvent]:
    """Write a verdict; returns the Model as the API server now holds it, or its deletion.

    On a conflict the Model is read once: if uid, generation, a gating condition or the owner's own one changed (a successor of ours wrote it),
    nothing is written and the newer Model is returned, so that the decision is made anew; else the same verdict goes out on the new version.
    """
    base = action.model
    for attempt in range(_TRIES):
        try:
            written = await _apply(runtime, action, base)
            for manager in former.get(runtime.name, ()):
                written = await _forgo(runtime, written, manager)
        except ConflictError:
            fresh = await _fresh(runtime, base)
            if fresh is None:
                return [deleted(base)]
            if _differs(base, fresh, action):
                return [events.ModelObserved(model=fresh)]
            base = fresh
            if attempt >= _PATIENT_TRIES:
                await runtime.sleep(runtime.random() * _JITTER_SECONDS)
        except NotFoundError:
            return [deleted(base)]
        else:
            await _tell(runtime, action, base, written)
            return [events.ModelObserved(model=written)]
    return [events.ModelObserved(model=base)]


def deleted(model: Model) -> events.ModelDeleted:
    """Return the news that a Model is gone."""
    meta = model.metadata
    return events.ModelDeleted(
        namespace=meta.namespace, name=meta.name, uid=meta.uid, version=meta.version + 1
    )


def rfc3339(runtime: Runtime) -> str:
    """Return the wall time, in whole seconds, as conditions hold it."""
    return runtime.wall().strftime("%Y-%m-%dT%H:%M:%SZ")


async def _apply(runtime: Runtime, action: Report, base: Model) -> Model:
    condition = conditions.stamped(action.condition, base.condition(action.condition.type), rfc3339(runtime))
    body = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.KIND,
        "metadata": {"name": base.metadata.name, "resourceVersion": base.metadata.resource_version},
        "status": {**_given(runtime, action.fields), "conditions": [msgspec.to_builtins(condition)]},
    }
    manager = f"flexinfer-{runtime.name}"
    return await runtime.cluster.apply(
        MODELS, base.metadata.namespace, body, manager=manager, subresource="status"
    )


async def _forgo(runtime: Runtime, model: Model, manager: str) -> Model:
    """Let a manager of a former release own nothing: what the present owner did not take over goes with it, and so does its name."""
    body = {
        "apiVersion": keys.API_VERSION,
        "kind": keys.KIND,
        "metadata": {"name": model.metadata.name, "resourceVersion": model.metadata.resource_version},
    }
    return await runtime.cluster.apply(
        MODELS, model.metadata.namespace, body, manager=manager, subresource="status"
    )


def _given(runtime: Runtime, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what there is to say: an object whose last field goes is left out, since a real API server makes it null, and refuses that."""
    told = {name: _plain(runtime, value) for name, value in fields.items() if value is not None}
    return {name: value for name, value in told.items() if value != {}}


def _plain(runtime: Runtime, value: Any) -> Any:
    if isinstance(value, Moment):
        ago = timedelta(seconds=max(0.0, runtime.clock() - value.at))
        return (runtime.wall() - ago).strftime("%Y-%m-%dT%H:%M:%SZ")
    return msgspec.to_builtins(value)


async def _fresh(runtime: Runtime, base: Model) -> Model | None:
    try:
        fresh = await runtime.cluster.get(MODELS, base.metadata.namespace, base.metadata.name)
    except NotFoundError:
        return None
    return fresh if fresh.uid == base.uid else None


def _differs(base: Model, fresh: Model, action: Report) -> bool:
    if fresh.metadata.generation != base.metadata.generation or fresh.deleting != base.deleting:
        return True
    if base.condition(action.condition.type) != fresh.condition(action.condition.type):
        return True
    return any(_gate(base, gate) != _gate(fresh, gate) for gate in action.gates)


def _gate(model: Model, kind: str) -> tuple[str, str, int] | None:
    found = model.condition(kind)
    return (found.status, found.reason, found.observed_generation) if found else None


async def _tell(runtime: Runtime, action: Report, base: Model, written: Model) -> None:
    """Hint at a hand-over, and record a transition; a quiet report, such as a phase, is neither."""
    if action.quiet:
        return
    meta = written.metadata
    hint = events.StatusChanged(
        owner=runtime.name, namespace=meta.namespace, name=meta.name, uid=meta.uid, version=meta.version
    )
    await runtime.bus.publish(hint)
    former = base.condition(action.condition.type)
    if former is not None and (former.status, former.reason) == (
        action.condition.status,
        action.condition.reason,
    ):
        return
    runtime.beside(record(runtime, written, action.condition))


async def record(runtime: Runtime, model: Model, condition: Condition, seconds: float | None = None) -> None:
    """Write one step of a Model's life: a line of history and a Kubernetes Event. Nothing waits for it."""
    step = f"{condition.type}={condition.status}"
    at = runtime.wall().isoformat(timespec="milliseconds")
    await runtime.bus.publish(
        events.HistoryRecorded(
            namespace=model.metadata.namespace,
            name=model.metadata.name,
            uid=model.uid,
            service=runtime.name,
            step=step,
            reason=condition.reason,
            message=condition.message,
            seconds=seconds,
            at=at,
        )
    )
    told = _event(runtime, model, condition)
    await runtime.sleep(_EVENT_SECONDS)
    try:
        await runtime.cluster.create(EVENTS, model.metadata.namespace, told)
    except ApiError as error:
        log.debug("event %s of %s not written: %s", condition.reason, model.key, error)


def _event(runtime: Runtime, model: Model, condition: Condition) -> dict[str, Any]:
    """Return a step as an Event. Names sort as they come: kubectl orders by whole seconds alone, and within one as they were listed."""
    meta, now = model.metadata, rfc3339(runtime)
    told = f"{meta.uid}/{condition.type}/{condition.reason}/{meta.resource_version}"
    when = int(runtime.wall().timestamp() * 1000)
    alarming = condition.status == conditions.FALSE and condition.reason in _ALARMING
    component = f"flexinfer-{runtime.name}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{meta.name}.{when:012x}{hashlib.sha256(told.encode()).hexdigest()[:8]}",
            "namespace": meta.namespace,
        },
        "involvedObject": {
            "apiVersion": keys.API_VERSION,
            "kind": keys.KIND,
            "name": meta.name,
            "namespace": meta.namespace,
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
        },
        "type": "Warning" if alarming or condition.status == conditions.UNKNOWN else "Normal",
        "reason": condition.reason,
        "message": condition.message or f"{condition.type} is {condition.status}",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": runtime.settings.identity,
        "action": condition.type,
    }
