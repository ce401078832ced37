"""The types of resources and objects.

Resource corresponds to metav1.APIResource with its group and version.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]  # plain JSON; objects of the store are shared and must not be modified

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource of one group and version, as discovery describes it."""

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
        """Return the GroupResource of error messages: `pods`, `widgets.example.org`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """Return the GroupKind of error messages: `Pod`, `Widget.example.org`."""
        return f"{self.kind}.{self.group}" if self.group else self.kind
