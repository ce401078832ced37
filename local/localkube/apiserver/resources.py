"""What a path of the API names: a resource, its verbs and its subresources. No behaviour lives here."""

from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]  # plain JSON; whoever gets one from the store must not change it

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object as the API offers it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: frozenset[str] = frozenset()  # of "status", "log", "binding"
    verbs: tuple[str, ...] = VERBS

    @property
    def api_version(self) -> str:
        """Return `v1` for the core group, else `group/version`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """Return the name that error texts use: `pods`, `widgets.example.org`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Return the kind that error texts use: `Pod`, `Widget.example.org`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind
