"""Conditions: their types, and how a new value is compared with the previous one. Pure."""

from collections.abc import Iterable

import msgspec

from flexinfer.api.base import Resource

TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
ACCEPTED, PLACED, CACHED = "Accepted", "Placed", "Cached"
WANTED, GRANTED, READY = "Wanted", "Granted", "Ready"
CONDITIONS = (ACCEPTED, PLACED, CACHED, WANTED, GRANTED, READY)
"""The condition types of a Model, in the order in which their first values are written.

Each has one owner (`api.services`).
"""
STALLED = "Stalled"
"""Of the watcher, present only where nothing but a change can help: what waits for a Model by kstatus then reads it as failed
(https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md). No decision reads it."""
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
        """Whether the status is True, of any generation."""
        return self.status == TRUE


def find(conditions: Iterable[Condition], kind: str) -> Condition | None:
    """Return the condition of that type, or None."""
    for condition in conditions:
        if condition.type == kind:
            return condition
    return None


def same(previous: Condition | None, condition: Condition) -> bool:
    """Return whether a condition equals the previous one, the transition time aside."""
    return previous is not None and (
        previous.status,
        previous.reason,
        previous.message,
        previous.observed_generation,
    ) == (condition.status, condition.reason, condition.message, condition.observed_generation)


def stamped(condition: Condition, previous: Condition | None, now: str) -> Condition:
    """Return the condition with its transition time: the previous one unless the status changed."""
    unchanged = previous is not None and previous.status == condition.status
    transition = previous.last_transition_time if previous is not None and unchanged else ""
    return msgspec.structs.replace(
        condition, last_transition_time=transition or now, message=one_line(condition.message)
    )


def clause(text: str) -> str:
    """Return a quoted text as a part of a sentence that continues: without the full stop or colon that it ends with."""
    return text.rstrip().rstrip(".:;,").rstrip()


def one_line(text: str) -> str:
    """Return text as it may appear in a condition: one line, printable, at most 1,024 characters.

    Messages quote engines and users; control sequences must not reach a terminal.
    """
    line = text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
    return line if len(line) <= MESSAGE_LIMIT else line[: MESSAGE_LIMIT - 1] + "…"
