"""Conditions: what each service says of a Model, and how a verdict is told from the former one."""

from collections.abc import Iterable

import msgspec

from flexinfer.api.base import Resource

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
ACCEPTED, PLACED, CACHED = "Accepted", "Placed", "Cached"
WANTED, GRANTED, READY = "Wanted", "Granted", "Ready"
CONDITIONS = (ACCEPTED, PLACED, CACHED, WANTED, GRANTED, READY)
"""The condition types of a Model, in the order in which their first values are written; each has one owner (`api.services`)."""
MESSAGE_LIMIT = 1024
"""Characters of a condition's message; longer ones are cut."""


class Condition(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """A `metav1.Condition`; `last_transition_time` is RFC 3339, whole seconds, UTC."""

    type: str
    status: str
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0

    @property
    def true(self) -> bool:
        """Whether the status is True, of whatever generation."""
        return self.status == TRUE


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of that type, or None."""
    for condition in conditions:
        if condition.type == kind:
            return condition
    return None


def same(former: Condition | None, verdict: Condition) -> bool:
    """Tell whether a verdict says nothing new, times aside."""
    return former is not None and (
        former.status,
        former.reason,
        former.message,
        former.observed_generation,
    ) == (verdict.status, verdict.reason, verdict.message, verdict.observed_generation)


def stamped(verdict: Condition, former: Condition | None, now: str) -> Condition:
    """Return the verdict with its transition time: the former one unless the status changed."""
    kept = former is not None and former.status == verdict.status and former.last_transition_time
    return msgspec.structs.replace(
        verdict,
        last_transition_time=former.last_transition_time if kept and former else now,
        message=one_line(verdict.message),
    )


def one_line(text: str) -> str:
    """Return text fit for a condition: one line, printable, at most 1,024 characters.

    Engines and users can put anything into a message; terminals should not obey it.
    """
    line = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"
