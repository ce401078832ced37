"""The bases of everything that is encoded: resources of the Kubernetes API and events on the bus."""

import msgspec


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A part of a Kubernetes object, reduced to the fields that FlexInfer reads or writes."""


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", rename="camel"):
    """A fact on the bus: how something looked, never a command."""
