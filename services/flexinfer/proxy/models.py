"""ModelTable: the Models as last observed, by key or by any of their names. Pure.

What one change costs does not depend on the number of Models. The API server's own answer always counts, also
one that is older than what was observed: it may have been restored from a backup. A message of the stream
counts unless a newer answer was received. The stream delivers the versions of an object in their order, so
that one below the version before means a restored API server, and counts too. A replay is everything that the
stream holds; only a newer answer about the same Model outlives it.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.api.names import NameIndex, aliases, labels
from flexinfer.api.numbers import whole_number
from flexinfer.events import events

_DELETIONS_KEPT = 4096
_LARGEST_VERSION = 2**63 - 1
_LONGEST_NAME = 253
"""The longest name of an object in Kubernetes."""


class Change(NamedTuple):
    """One Model before and after: None where there is none."""

    before: Model | None
    after: Model | None


class ModelTable:
    """All Models; `version` is the highest resourceVersion that was observed of any."""

    def __init__(self) -> None:
        self._models: dict[str, Model] = {}
        self._names, self._aliases, self._labels = NameIndex(), NameIndex(), NameIndex()
        self._streamed: dict[str, int] = {}  # key -> the version that the stream delivered last
        self._answered: set[str] = set()  # keys of the Models that are held as the API server answered
        self.models: Mapping[str, Model] = MappingProxyType(self._models)
        self.version = 0

    def keys_of_alias(self, alias: str) -> Sequence[str]:
        """Return the keys of the Models that have an alias."""
        return self._aliases.keys(alias)

    def keys_of_name(self, name: str) -> Sequence[str]:
        """Return the keys of the Models that have a name, whatever their namespace."""
        return self._names.keys(name)

    def keys_of_label(self, label: str) -> Sequence[str]:
        """Return the keys of the Models that have a label, in any case."""
        return self._labels.keys(label.casefold())

    def observe(self, model: Model) -> Change | None:
        """Take a Model from the stream; None if that changes nothing."""
        version = version_of(model.metadata)
        if version is None:
            return None
        self.version = max(self.version, version)
        restored = self._stream(model.key, version)
        current = self._models.get(model.key)
        if current is not None and not restored and version < current.metadata.version:
            return None
        return self._put(model, answered=False)

    def confirm(self, model: Model) -> Change | None:
        """Take a Model as the API server answered, whatever was observed before; None if that changes nothing."""
        version = version_of(model.metadata)
        if version is None:
            return None
        self.version = max(self.version, version)
        return self._put(model, answered=True)

    def delete(self, key: str, uid: str, version: int = 0) -> Change | None:
        """Drop a Model if it has this uid, or is older than a version at which there is none; None if that changes nothing."""
        current = self._models.get(key)
        if current is None or (current.uid != uid and current.metadata.version >= version):
            return None
        del self._models[key]
        self._answered.discard(key)
        self._claim(current, None)
        return Change(current, None)

    def replace(self, replay: Iterable[events.AnyEvent]) -> list[Change]:
        """Replace all Models by a replay of the stream, but for those with a newer answer."""
        new_table = ModelTable()
        for event in replay:
            new_table.apply(event)
        for key in self._answered:
            model, other = self._models[key], new_table.models.get(key)
            newer = other is not None and other.metadata.version < model.metadata.version
            if other is not None and other.uid == model.uid and newer:
                new_table.confirm(model)
        self._streamed, self._answered = new_table._streamed, new_table._answered
        self.version = new_table.version
        return list(self._become(new_table.models))

    def apply(self, event: events.AnyEvent) -> Change | None:
        """Apply an event of the stream; None if that changes nothing."""
        match event:
            case events.ModelObserved(model=model):
                return self.observe(model)
            case events.ModelDeleted(namespace=namespace, name=name, uid=uid, version=version):
                version = min(version, _LARGEST_VERSION)
                self.version = max(self.version, version)
                self._stream(f"{namespace}/{name}", version)
                return self.delete(f"{namespace}/{name}", uid, version)
            case _:
                return None

    def _stream(self, key: str, version: int) -> bool:
        """Note a version that the stream delivered; tell whether it is below the one before."""
        before = self._streamed.get(key)
        self._streamed[key] = version
        if len(self._streamed) > 2 * len(self._models) + _DELETIONS_KEPT:
            self._streamed = {k: v for k, v in self._streamed.items() if k in self._models or k == key}
        return before is not None and version < before

    def _become(self, models: Mapping[str, Model]) -> Iterable[Change]:
        for key in [key for key in self._models if key not in models]:
            current = self._models.pop(key)
            self._claim(current, None)
            yield Change(current, None)
        for key, model in models.items():
            change = self._put(model, answered=key in self._answered)
            if change is not None:
                yield change

    def _put(self, model: Model, *, answered: bool) -> Change | None:
        (self._answered.add if answered else self._answered.discard)(model.key)
        current = self._models.get(model.key)
        if current is not None and _same(current, model):
            return None
        self._models[model.key] = model
        self._claim(current, model)
        return Change(current, model)

    def _claim(self, before: Model | None, after: Model | None) -> None:
        """Keep the indexes of names."""
        for model, note in ((before, NameIndex.discard), (after, NameIndex.add)):
            if model is not None:
                note(self._names, model.key, (model.metadata.name,))
                note(self._aliases, model.key, aliases(model))
                note(self._labels, model.key, labels(model))


def version_of(metadata: Metadata) -> int | None:
    """Return the resourceVersion of an object that an API server can hold, else None."""
    has_name = metadata.uid and metadata.name and metadata.namespace
    if not has_name or max(len(metadata.name), len(metadata.namespace)) > _LONGEST_NAME:
        return None
    return whole_number(metadata.resource_version)


def _same(one: Model, other: Model) -> bool:
    return (one.uid, one.metadata.version) == (other.uid, other.metadata.version)
