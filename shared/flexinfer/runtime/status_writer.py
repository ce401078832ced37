"""The status writer: writes an owner's status, then publishes a hint, a line of history and an Event.

Server-side apply on the status subresource, always with the owner's full set of fields and with the
resourceVersion that it was decided from: the API server ignores uid on `/status` of a custom resource
(measured), so only resourceVersion prevents that a write meant for a deleted Model reaches a newer one of the
same name. Nothing waits for history and Event. What to write is decided in each component.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import lru_cache, partial

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.groupversion import API_VERSION, KIND
from flexinfer.api.model import Model
from flexinfer.api.status import OTHER_FIELDS, MonotonicTime, OwnedStatus
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.runtime.event_recorder import Json, record
from flexinfer.runtime.kubernetes.api import MODELS, ConflictError, InvalidError, NotFoundError, get_or_none
from flexinfer.runtime.refetch import deletion_of, returned
from flexinfer.runtime.runtime import Runtime
from flexinfer.state.actions import WriteStatus

log = logging.getLogger(__name__)
_JITTER_SECONDS = 0.02
_ATTEMPTS_WITHOUT_JITTER = 2
_ATTEMPTS = 20
_CENTURY_SECONDS = 36_525 * 86_400.0


async def write_status(runtime: Runtime, action: WriteStatus) -> list[AnyEvent]:
    """Write a status; returns the Model as the API server holds it now, or its deletion.

    On a conflict the Model is read again. If its uid, its generation, a gating condition or the owner's own
    condition has changed, nothing is written and the newer Model is returned, so that the caller decides
    again; else the same status is written with the new resourceVersion. Raises ApiError, but neither
    ConflictError nor NotFoundError.
    """
    base = action.model
    for attempt in range(_ATTEMPTS):
        try:
            latest = await _apply(runtime, action.status, base)
        except ConflictError:
            current = await _read(runtime, base)
            if current is None:
                return [deletion_of(base)]
            if _differs(base, current, action):
                return [returned(action.model, current)]
            base = current
            if attempt >= _ATTEMPTS_WITHOUT_JITTER:
                await runtime.sleep(runtime.random() * _JITTER_SECONDS)
        except NotFoundError:
            return [deletion_of(base)]
        else:
            await _publish_transition(runtime, action, base, latest)
            return [events.ModelObserved(model=latest)]
    return [events.ModelObserved(model=base)]


async def write_status_once(runtime: Runtime, action: WriteStatus) -> Model:
    """Write a status with exactly the resourceVersion that it was decided from; returns the Model as it is then.

    Raises ConflictError if the Model was written since, NotFoundError, ApiError.
    """
    current = await _apply(runtime, action.status, action.model)
    await _publish_transition(runtime, action, action.model, current)
    return current


async def replace_status(runtime: Runtime, model: Model) -> Model:
    """Replace a status that cannot be read whole by what was read of it; returns the Model as it is then.

    No server-side apply succeeds before, by any component ("failed to create typed live object", seen on Kubernetes 1.37): a JSON
    patch does not ask what was there. Raises InvalidError if the Model was written since, NotFoundError, ApiError.
    """
    meta = model.metadata
    operations = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version},
        {"op": "replace", "path": "/status", "value": msgspec.to_builtins(model.status)},
    ]
    return await runtime.cluster.patch(MODELS, meta.namespace, meta.name, operations, subresource="status")


def rfc3339(runtime: Runtime) -> str:
    """Return the wall-clock time in whole seconds, UTC, as conditions hold it."""
    return runtime.utc_now().strftime("%Y-%m-%dT%H:%M:%SZ")


async def _apply(runtime: Runtime, status: OwnedStatus, base: Model) -> Model:
    """Apply an owner's status, and return the Model with exactly that. Raises ApiError."""
    now, timed = rfc3339(runtime), status.timed(partial(_wall, runtime))
    values = _fields(runtime, timed)
    entries = [
        conditions.stamped(condition, base.condition(kind), now)
        for kind, condition in status.conditions.items()
        if condition is not None
    ]
    meta = base.metadata
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": meta.name, "resourceVersion": meta.resource_version},
        "status": {
            **values,
            "conditions": msgspec.to_builtins(entries),
        },
    }
    manager = f"flexinfer-{runtime.name}"
    latest = await runtime.cluster.apply(MODELS, meta.namespace, body, manager=manager, subresource="status")
    others = [
        name
        for own, name in _names(type(timed))
        if _has_more(msgspec.to_builtins(getattr(latest.status, own)), values.get(name))
    ]
    return await _without_others(runtime, latest, others, values) if others else latest


def _has_more(value: object, own: object) -> bool:
    """Return whether a JSON value has anything beside the owner's; what an API server of an older schema has dropped is not looked for."""
    if isinstance(value, dict):
        parts: Mapping[str, object] = own if isinstance(own, dict) else {}
        return any(_has_more(part, parts.get(name)) for name, part in value.items())
    if isinstance(value, list | tuple):
        entries: Sequence[object] = own if isinstance(own, list | tuple) else ()
        return len(value) > len(entries) or any(map(_has_more, value, entries))
    return bool(value) and own is None


async def _without_others(runtime: Runtime, model: Model, names: Sequence[str], values: Json) -> Model:
    """Return the Model with these fields as their owner has them, and nothing else in them. Raises ConflictError if it was written since.

    What another client wrote into a field, as one that edits a status by hand, outlives an apply: that removes only what the owner wrote.
    """
    meta = model.metadata
    log.warning("%s: what another client wrote into status is taken out: %s", meta.key, ", ".join(names))
    operations: list[Json] = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": meta.resource_version}
    ]
    for name in names:
        change: Json = {"op": "add", "value": values[name]} if name in values else {"op": "remove"}
        operations.append({**change, "path": f"/status/{name}"})
    try:
        return await runtime.cluster.patch(
            MODELS, meta.namespace, meta.name, operations, subresource="status"
        )
    except InvalidError as error:
        raise ConflictError(f"{meta.key} was written meanwhile: {error}", 409) from error


def _fields(runtime: Runtime, status: OwnedStatus) -> Json:
    """Return an owner's fields as JSON, without empty ones.

    A real API server turns an object without fields into null, and then rejects it.
    """
    values = {name: _plain(runtime, getattr(status, own)) for own, name in _names(type(status))}
    return {name: value for name, value in values.items() if value is not None and value != {}}


@lru_cache(maxsize=64)
def _names(kind: type[OwnedStatus]) -> tuple[tuple[str, str], ...]:
    """Return the fields of an owner's status, as attribute and as JSON name: msgspec would look for them at each write."""
    fields = msgspec.structs.fields(kind)
    return tuple((field.name, field.encode_name) for field in fields if field.name not in OTHER_FIELDS)


def _wall(runtime: Runtime, at: float) -> str:
    """Return a time of the monotonic clock, past or to come, as RFC 3339 in whole seconds, UTC; at most a century away, since others may write any figure."""
    seconds = min(max(at - runtime.clock(), -_CENTURY_SECONDS), _CENTURY_SECONDS)
    return (runtime.utc_now() + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _plain(runtime: Runtime, value: object) -> object:
    if isinstance(value, MonotonicTime):
        return _wall(runtime, min(value.at, runtime.clock()))
    return msgspec.to_builtins(value)


async def _read(runtime: Runtime, base: Model) -> Model | None:
    """GET the Model; None if it was deleted, also if another one has its name."""
    current = await get_or_none(runtime.cluster, MODELS, base.metadata.namespace, base.metadata.name)
    return current if current is not None and current.uid == base.uid else None


def _differs(base: Model, current: Model, action: WriteStatus) -> bool:
    """Return whether anything that the status was decided from has changed."""
    if current.metadata.generation != base.metadata.generation or current.deleting != base.deleting:
        return True
    if base.condition(action.condition.type) != current.condition(action.condition.type):
        return True
    quotes = action.quotes
    return any(
        _gate(base, gate, quotes=quotes) != _gate(current, gate, quotes=quotes) for gate in action.gates
    )


def _gate(model: Model, kind: str, *, quotes: bool) -> tuple[str, str, int, str] | None:
    condition = model.condition(kind)
    if condition is None:
        return None
    message = condition.message if quotes else ""
    return (condition.status, condition.reason, condition.observed_generation, message)


async def _publish_transition(runtime: Runtime, action: WriteStatus, base: Model, current: Model) -> None:
    """Publish a hint for the next component, and record a transition in the background.

    Neither after a quiet write.
    """
    if action.quiet:
        return
    meta, condition = current.metadata, action.condition
    hint = events.StatusChanged(
        owner=runtime.name, namespace=meta.namespace, name=meta.name, uid=meta.uid, version=meta.version
    )
    await runtime.bus.publish(hint)
    previous = base.condition(condition.type)
    if previous is None or (previous.status, previous.reason) != (condition.status, condition.reason):
        runtime.spawn_background(record_transition(runtime, current, condition))


async def record_transition(runtime: Runtime, model: Model, condition: Condition) -> None:
    """Record a transition: a line of history and an Event. Never raises ApiError."""
    await runtime.bus.publish(
        events.HistoryRecorded(
            namespace=model.metadata.namespace,
            name=model.metadata.name,
            uid=model.uid,
            service=runtime.name,
            step=f"{condition.type}={condition.status}",
            reason=condition.reason,
            message=condition.message,
            at=runtime.utc_now().isoformat(timespec="milliseconds"),
            version=model.metadata.version,
        )
    )
    message = condition.message or f"{condition.type} is {condition.status}"
    await record(
        runtime,
        model,
        condition.reason,
        message,
        action=condition.type,
        warning=_is_warning(condition),
    )


def _is_warning(condition: Condition) -> bool:
    warning = condition.status == conditions.FALSE and condition.reason in reasons.WARNING
    return warning or condition.status == conditions.UNKNOWN
