"""The parts of an API server's answers that the client itself reads."""

import msgspec

from flexinfer.api.metadata import Metadata


class ListMetadata(msgspec.Struct):
    """What a list says of itself; `next_page` is empty on its last page."""

    resource_version: str = msgspec.field(name="resourceVersion", default="")
    next_page: str = msgspec.field(name="continue", default="")


class ObjectList(msgspec.Struct):
    """One page of a list."""

    metadata: ListMetadata
    items: list[msgspec.Raw] = []


class WatchLine(msgspec.Struct):
    """One line of a watch: ADDED, MODIFIED, DELETED, BOOKMARK or ERROR, and its object."""

    type: str
    object: msgspec.Raw


class Versioned(msgspec.Struct):
    """Of any object, what orders its changes."""

    metadata: Metadata = Metadata()


class _Name(msgspec.Struct):
    name: str


class Named(msgspec.Struct):
    """Of any object, its name, which it must have."""

    metadata: _Name
