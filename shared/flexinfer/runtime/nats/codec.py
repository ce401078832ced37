"""NATS messages: the headers of an event. Bodies are `events.codec`'s."""

import secrets

from flexinfer.events import events
from flexinfer.events.codec import UndecodableError, decode, encode
from flexinfer.events.events import AnyEvent

CONTENT_TYPE = "application/json"
DELETED_HEADER = "Flexinfer-Deleted"
TRACE_HEADER = "traceparent"
ID_HEADER = "Nats-Msg-Id"
EXPECTED_HEADER = "Nats-Expected-Last-Subject-Sequence"
EXPIRY_HEADER = "Nats-TTL"
"""Seconds after which the server drops a message, of a stream that allows it."""
_TRACE_DIGITS = 32


def headers(event: AnyEvent) -> dict[str, str]:
    """Return the headers of an event.

    The trace of everything that happens to one Model is its uid, which has the form of a W3C trace id: one
    trace holds its whole life, whichever component published. History carries a message id, so that the
    stream keeps a repeated step once: the version that it was written as, and not when, makes it one.
    """
    values = {"Content-Type": CONTENT_TYPE, TRACE_HEADER: traceparent(uid_of(event))}
    if isinstance(event, events.DELETIONS):
        values[DELETED_HEADER] = "true"
    if isinstance(event, events.HistoryRecorded):
        values[ID_HEADER] = f"{event.uid}.{event.service}.{event.version}.{event.step}"
    return values


def traceparent(uid: str) -> str:
    """Return a W3C traceparent: the trace is the uid, or a new one if there is no uid of that form."""
    trace = uid.replace("-", "").lower()
    usable = len(trace) == _TRACE_DIGITS and set(trace) <= set("0123456789abcdef") and set(trace) != {"0"}
    return f"00-{trace if usable else secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def uid_of(event: AnyEvent) -> str:
    """Return the uid of the Model that an event is about, or an empty string."""
    return event.model.uid if isinstance(event, events.ModelObserved) else getattr(event, "uid", "")


__all__ = [
    "CONTENT_TYPE",
    "DELETED_HEADER",
    "UndecodableError",
    "decode",
    "encode",
    "headers",
    "traceparent",
    "uid_of",
]
