"""Events as bytes and back, and what the state stream holds for a subject. Pure.

Headers of a message are `runtime.nats.message_headers`'s: a trace needs randomness.
"""

import msgspec

from flexinfer.events.events import AnyEvent

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_encoder = msgspec.json.Encoder()


class UndecodableError(ValueError):
    """A message is not an event of this release."""


class StreamEntry(msgspec.Struct, frozen=True):
    """What the state stream holds for a subject; `body` is None after a deletion."""

    sequence: int
    body: bytes | None


def encode(event: AnyEvent) -> bytes:
    """Return the JSON of an event."""
    return _encoder.encode(event)


def decode(body: bytes) -> AnyEvent:
    """Return the event of a body. Raises UndecodableError, which says what is wrong with it."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise UndecodableError(str(error)) from error
