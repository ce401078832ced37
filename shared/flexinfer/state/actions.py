"""Actions that every deciding component shares: write its status, and decide again at a given time. Pure.

A component's own effects (create a Pod, create a Job, advance a Lease) are structs beside its `decide`.
"""

from typing import Protocol

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.metadata import CustomResource
from flexinfer.api.model import Model
from flexinfer.api.status import OTHER_FIELDS, MonotonicTime, OwnedStatus

FIRST_WRITE_TIMEOUT = 1.0
"""Seconds by which a first condition that waits for nothing is delayed for those before it (DESIGN 5)."""


class Action(Protocol):
    """An effect that a decision yields; actions with one key never run at the same time."""

    @property
    def key(self) -> str:
        """What the action is about, such as a Model's key."""
        ...


class RequeueAt(msgspec.Struct, frozen=True):
    """Decide again at a point in time of the monotonic clock, whether or not anything happens."""

    at: float

    @property
    def key(self) -> str:
        """Empty: nothing is performed."""
        return ""


class CatchUp(msgspec.Struct, frozen=True):
    """Decide again once everything that was sent to this process by now has been read.

    For a decision that is due because nothing was heard: a process that was paused, or is slow, has not read what contradicts
    it. `ObservedState.caught_up_at` tells that it has.
    """

    @property
    def key(self) -> str:
        """Empty: nothing is performed."""
        return ""


class WriteStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Write an owner's status, always its full set of fields.

    `model` is what the status was decided from: the write carries its resourceVersion. `gates` are the
    condition types that it depends on: if one of them has changed meanwhile, nothing is written and the
    component decides again; what `quotes` them depends on their messages too. A `quiet` write is no transition: no hint, no Event and no
    line of history follow it.
    """

    model: Model
    status: OwnedStatus
    gates: tuple[str, ...] = ()
    quotes: bool = False
    quiet: bool = False

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key

    @property
    def condition(self) -> Condition:
        """The condition that is written."""
        return self.status.condition


class WithWrite(msgspec.Struct, frozen=True, kw_only=True):
    """An effect that writes a status too."""

    write: WriteStatus

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.write.key


def condition(subject: CustomResource, kind: str, status: str, reason: str, message: str) -> Condition:
    """Return a condition of the current generation of a Model, SharedGroup or GPULease."""
    return Condition(
        type=kind,
        status=status,
        reason=str(reason),
        message=conditions.one_line(message),
        observed_generation=subject.metadata.generation,
    )


def true(subject: CustomResource, kind: str, reason: str, message: str) -> Condition:
    """Return a True condition of the current generation of an object."""
    return condition(subject, kind, conditions.TRUE, reason, message)


def false(subject: CustomResource, kind: str, reason: str, message: str) -> Condition:
    """Return a False condition of the current generation of an object."""
    return condition(subject, kind, conditions.FALSE, reason, message)


def write_if_changed(model: Model, status: OwnedStatus, gates: tuple[str, ...] = ()) -> WriteStatus | None:
    """Return the write of an owner's status, or None if the Model has it already."""
    for kind, condition in status.conditions.items():
        if not _same(model.condition(kind), condition):
            return WriteStatus(model=model, status=status, gates=gates)
    if all(_equal(getattr(model.status, name), value) for name, value in fields(status)):
        return None
    return WriteStatus(model=model, status=status, gates=gates)


def written(write: WriteStatus) -> Model:
    """Return the Model as it will be once the write has arrived; times for people stay as they are."""
    status, model = write.status, write.model
    others = tuple(c for c in model.status.conditions if c.type not in status.conditions)
    own = tuple(c for c in status.conditions.values() if c is not None)
    values = {name: value for name, value in fields(status) if not isinstance(value, MonotonicTime)}
    next_status = msgspec.structs.replace(model.status, conditions=(*others, *own), **values)
    return msgspec.structs.replace(model, status=next_status)


def fields(status: OwnedStatus) -> list[tuple[str, object]]:
    """Return an owner's fields, its conditions aside, as (attribute of `Model.status`, value)."""
    names = [name for name in type(status).__struct_fields__ if name not in OTHER_FIELDS]
    return [(name, getattr(status, name)) for name in names]


def unwritten_before(model: Model, kind: str) -> bool:
    """Return whether a condition that precedes this one has never been written."""
    preceding = conditions.CONDITIONS[: conditions.CONDITIONS.index(kind)]
    return any(model.condition(earlier) is None for earlier in preceding)


def first_write_due(model: Model, kind: str, first_seen_at: float | None, now: float) -> float | None:
    """Return until when the first value of a condition that waits for nothing is delayed; None: write it now.

    Six owners that write at once would conflict with each other.
    """
    if model.condition(kind) is not None or not unwritten_before(model, kind) or first_seen_at is None:
        return None
    due = first_seen_at + FIRST_WRITE_TIMEOUT
    return due if now < due else None


def _same(previous: Condition | None, condition: Condition | None) -> bool:
    return previous is None if condition is None else conditions.same(previous, condition)


def _equal(previous: object, value: object) -> bool:
    return previous == value or _plain(previous) == _plain(value)


def _plain(value: object) -> object:
    """Return a value of a field in a comparable form; all empty ones are equal."""
    plain: object = value if isinstance(value, MonotonicTime) else msgspec.to_builtins(value)
    return None if plain in ("", {}, 0) else plain
