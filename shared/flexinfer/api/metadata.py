"""The part of ObjectMeta that components read, and what objects of FlexInfer's own kinds have in common. Pure."""

from flexinfer.api.base import Resource
from flexinfer.api.numbers import whole_number


class OwnerReference(Resource, frozen=True, kw_only=True):
    """The owner of an object."""

    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False
    block_owner_deletion: bool = False


class Metadata(Resource, frozen=True, kw_only=True):
    """The part of ObjectMeta that components read."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: str | None = None
    deletion_timestamp: str | None = None

    @property
    def key(self) -> str:
        """`namespace/name`; the name alone of an object without namespace."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name

    @property
    def version(self) -> int:
        """The resourceVersion as a number, which it is in every API server (KEP-5504); else 0."""
        return whole_number(self.resource_version) or 0

    @property
    def deleting(self) -> bool:
        """Whether its deletion was requested."""
        return self.deletion_timestamp is not None


class CustomResource(Resource, frozen=True, kw_only=True):
    """An object of one of FlexInfer's own kinds."""

    api_version: str
    kind: str
    metadata: Metadata

    @property
    def key(self) -> str:
        """`namespace/name` of the object."""
        return self.metadata.key

    @property
    def uid(self) -> str:
        """Its uid, which tells it from a later one of the same name."""
        return self.metadata.uid

    @property
    def deleting(self) -> bool:
        """Whether its deletion was requested."""
        return self.metadata.deleting
