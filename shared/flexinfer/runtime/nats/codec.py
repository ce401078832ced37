"""Messages: an event as bytes and headers, and back. What does not decode is named, not dropped in silence."""

import secrets

import msgspec

from flexinfer.events import events
from flexinfer.events.events import AnyEvent

CONTENT_TYPE = "application/json"
DELETED_HEADER = "Flexinfer-Deleted"
TRACE_HEADER = "traceparent"
ID_HEADER = "Nats-Msg-Id"

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


class UndecodableError(ValueError):
    """A message is not an event that we know."""


def encode(event: AnyEvent) -> bytes:
    """Return the JSON of an event."""
    return _encoder.encode(event)


def decode(body: bytes) -> AnyEvent:
    """Return the event of a body; UndecodableError says what is wrong with it."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise UndecodableError(str(error)) from error


def headers(event: AnyEvent) -> dict[str, str]:
    """Return the headers of an event.

    The trace of everything that happens to one Model is its uid, which has the form of a W3C trace id: so one trace holds its
    whole life, whoever published. History carries a message id, so that a repeated step is kept once.
    """
    found = {"Content-Type": CONTENT_TYPE, TRACE_HEADER: traceparent(uid_of(event))}
    if isinstance(event, events.DELETIONS):
        found[DELETED_HEADER] = "true"
    if isinstance(event, events.HistoryRecorded):
        found[ID_HEADER] = f"{event.uid}.{event.service}.{event.at}.{event.step}"
    return found


def traceparent(uid: str) -> str:
    """Return a W3C traceparent: the trace is the uid, or a new one when there is none."""
    trace = uid.replace("-", "").lower()
    usable = len(trace) == 32 and all(c in "0123456789abcdef" for c in trace) and set(trace) != {"0"}  # noqa: PLR2004
    return f"00-{trace if usable else secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def uid_of(event: AnyEvent) -> str:
    """Return the uid of the Model that an event is about, or nothing."""
    if isinstance(event, events.ModelObserved):
        return event.model.uid
    return getattr(event, "uid", "")
