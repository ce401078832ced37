"""The base of everything that is published on NATS. Pure."""

import msgspec


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """An observation: how something looks at a point in time. Never a command."""
