"""The base of everything that is published on NATS. Pure."""

from typing import Annotated, TypeAlias

import msgspec

from flexinfer.api.numbers import LARGEST

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=LARGEST)]
"""A number of a message. One that is negative, or that 64 bits do not hold, makes it no event: what is computed from it would raise."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """An observation: how something looks at a point in time. Never a command."""
