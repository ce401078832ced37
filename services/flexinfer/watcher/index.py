"""Index: the objects of one kind, by key and by tags. Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from flexinfer.api.metadata import Metadata


class KubernetesObject(Protocol):
    """Any object of the Kubernetes API."""

    @property
    def metadata(self) -> Metadata:
        """Its name and versions."""
        ...


T = TypeVar("T", bound=KubernetesObject)


class Index(Generic[T]):
    """The objects last observed of one kind. `tags` returns what an object is found by, beside its key."""

    def __init__(self, tags: Callable[[T], Iterable[str]] = lambda _: ()) -> None:
        self._tags = tags
        self._objects: dict[str, T] = {}
        self._keys: dict[str, set[str]] = {}  # tag -> keys

    def __iter__(self) -> Iterator[T]:
        return iter(self._objects.values())

    def find(self, key: str) -> T | None:
        """Return the object of a key, or None."""
        return self._objects.get(key)

    def tagged(self, tag: str) -> list[T]:
        """Return the objects of a tag, by key."""
        return [self._objects[key] for key in sorted(self._keys.get(tag, ()))]

    def upsert(self, item: T) -> T | None:
        """Add or replace an object; returns the one that it replaces."""
        key = item.metadata.key
        previous = self.remove(key)
        self._objects[key] = item
        for tag in self._tags(item):
            self._keys.setdefault(tag, set()).add(key)
        return previous

    def remove(self, key: str) -> T | None:
        """Remove an object; returns it, or None if there was none."""
        previous = self._objects.pop(key, None)
        for tag in self._tags(previous) if previous is not None else ():
            keys = self._keys.get(tag, set())
            keys.discard(key)
            if not keys:
                self._keys.pop(tag, None)
        return previous

    def replace_all(self, items: Iterable[T]) -> list[T]:
        """Replace all objects by a list.

        Returns what changed: previous and new states, and what the list lacks.
        """
        by_key = {item.metadata.key: item for item in items}
        changed_items = [item for key in self._objects.keys() - by_key.keys() if (item := self.remove(key))]
        for key, item in by_key.items():
            previous = self._objects.get(key)
            if previous != item:
                changed_items += [previous, item] if previous is not None else [item]
                self.upsert(item)
        return changed_items
