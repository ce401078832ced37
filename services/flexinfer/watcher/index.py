"""Shelf: objects of one kind, found by key and by whatever they are tagged with."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar

from flexinfer.api.model import Metadata


class Thing(Protocol):
    """Anything of the Kubernetes API."""

    @property
    def metadata(self) -> Metadata:
        """Its name and versions."""
        ...


T = TypeVar("T", bound=Thing)


class Index(Generic[T]):
    """The objects last seen of one kind. `tags` says what each is found by, beside its key."""

    def __init__(self, tags: Callable[[T], Iterable[str]]) -> None:
        self._tags = tags
        self._things: dict[str, T] = {}
        self._tagged: dict[str, set[str]] = {}  # tag -> keys

    def __iter__(self) -> Iterator[T]:
        return iter(self._things.values())

    def find(self, key: str) -> T | None:
        """Return the object of that key, or None."""
        return self._things.get(key)

    def tagged(self, tag: str) -> list[T]:
        """Return the objects of a tag, by key."""
        return [self._things[key] for key in sorted(self._tagged.get(tag, ()))]

    def put(self, thing: T) -> T | None:
        """Take in an object; returns the one that it replaces."""
        former = self.drop(thing.metadata.key)
        self._things[thing.metadata.key] = thing
        for tag in self._tags(thing):
            self._tagged.setdefault(tag, set()).add(thing.metadata.key)
        return former

    def drop(self, key: str) -> T | None:
        """Forget an object; returns it if it was there."""
        former = self._things.pop(key, None)
        for tag in self._tags(former) if former is not None else ():
            keys = self._tagged.get(tag, set())
            keys.discard(key)
            if not keys:
                self._tagged.pop(tag, None)
        return former

    def swap(self, things: Iterable[T]) -> list[T]:
        """Take a whole list in place of what was there; returns what differs: old and new states, and the missing."""
        listed: Mapping[str, T] = {thing.metadata.key: thing for thing in things}
        changed = [former for key in self._things.keys() - listed.keys() if (former := self.drop(key))]
        for key, thing in listed.items():
            known = self._things.get(key)
            if known != thing:
                changed += [known, thing] if known is not None else [thing]
                self.put(thing)
        return changed
