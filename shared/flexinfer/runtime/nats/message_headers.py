"""The headers of NATS messages. Their bodies are `events.codec`'s."""

import secrets

from flexinfer.events import events
from flexinfer.events.events import AnyEvent

DELETED = "Flexinfer-Deleted"
ID = "Nats-Msg-Id"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPIRY = "Nats-TTL"
"""Seconds after which the server drops a message, of a stream that allows it."""
_TRACE_DIGITS = 32


def of_event(event: AnyEvent) -> dict[str, str]:
    """Return the headers of an event.

    The trace of everything that happens to one Model is its uid, which has the form of a W3C trace id: one
    trace holds its whole life, whichever component published. History carries a message id, so that the
    stream keeps a repeated step once: the version that it was written as, and not when, makes it one.
    """
    values = {"Content-Type": "application/json", "traceparent": _traceparent(_uid_of(event))}
    if isinstance(event, events.DELETIONS):
        values[DELETED] = "true"
    if isinstance(event, events.HistoryRecorded):
        values[ID] = f"{event.uid}.{event.service}.{event.version}.{event.step}"
    return values


def _traceparent(uid: str) -> str:
    """Return a W3C traceparent: the trace is the uid, or a new one if there is no uid of that form."""
    trace = uid.replace("-", "").lower()
    usable = len(trace) == _TRACE_DIGITS and set(trace) <= set("0123456789abcdef") and set(trace) != {"0"}
    return f"00-{trace if usable else secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def _uid_of(event: AnyEvent) -> str:
    """Return the uid of the Model that an event is about, or an empty string."""
    return event.model.uid if isinstance(event, events.ModelObserved) else getattr(event, "uid", "")
