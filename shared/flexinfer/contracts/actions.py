"""Actions that every deciding service shares: its verdict on a Model, and a moment to look again.

A service's own effects (start a Pod, create a Job, move a Lease) are structs of its own beside its `decide`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec

from flexinfer.contracts import conditions, keys
from flexinfer.contracts.conditions import Condition
from flexinfer.contracts.model import Model

FIRST_VERDICT_PATIENCE = 1.0
"""Seconds that a first verdict which needs nothing waits for the one before it (DESIGN 5)."""


class Action(Protocol):
    """An effect that a decision asks for; one at a time is performed for a key."""

    @property
    def key(self) -> str:
        """What the action is about: actions of one key never overlap."""
        ...


class Recheck(msgspec.Struct, frozen=True):
    """Decide again at a moment of the monotonic clock, whether or not anything happens."""

    at: float

    @property
    def key(self) -> str:
        """No key: nothing is performed."""
        return ""


class Moment(msgspec.Struct, frozen=True):
    """A moment of the monotonic clock; a report writes it as wall time."""

    at: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Write the owner's condition and fields, always as a full set.

    `model` is what the verdict was decided from: the write carries its resourceVersion. `gates` are the condition
    types that the verdict hangs on: should one of them have changed meanwhile, the decision is made anew.
    """

    model: Model
    condition: Condition
    fields: Mapping[str, Any] = {}
    gates: tuple[str, ...] = ()
    quiet: bool = False

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


def verdict(model: Model, kind: str, status: str, reason: str, message: str) -> Condition:
    """Return a condition of the Model's present generation."""
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=conditions.one_line(message),
        observed_generation=model.metadata.generation,
    )


def report(
    model: Model, condition: Condition, fields: Mapping[str, Any] | None = None, gates: tuple[str, ...] = ()
) -> Report | None:
    """Return the report that makes a verdict known, or None when the Model says it already."""
    owner = keys.OWNERS[condition.type]
    told = {name: getattr(model.status, _snake(name)) for name in keys.STATUS_FIELDS[owner] if fields}
    wanted = dict(fields or {})
    if conditions.same(model.condition(condition.type), condition) and all(
        _plain(told[name]) == _plain(value) for name, value in wanted.items()
    ):
        return None
    return Report(model=model, condition=condition, fields=wanted, gates=gates)


def unwritten_before(model: Model, kind: str) -> bool:
    """Tell whether a condition that comes earlier in the row has never been written."""
    row = keys.CONDITIONS[: keys.CONDITIONS.index(kind)]
    return any(model.condition(earlier) is None for earlier in row)


def first_verdict_waits(model: Model, kind: str, seen: float | None, now: float) -> float | None:
    """Return until when a first verdict that needs nothing should wait for its turn; None: write it now."""
    if model.condition(kind) is not None or not unwritten_before(model, kind) or seen is None:
        return None
    until = seen + FIRST_VERDICT_PATIENCE
    return until if now < until else None


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _plain(value: Any) -> Any:
    plain = value if isinstance(value, Moment) else msgspec.to_builtins(value)
    return None if plain in ("", {}, 0) else plain
