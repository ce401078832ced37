"""ModelTable: the Models as last observed, found by key or by alias. Pure.

What one change costs does not depend on the number of Models. The API server's own answer always counts, also
one that is older than what was observed: it may have been restored from a backup. A message of the stream
counts unless it is older than what is held, and a replay keeps a Model of the same uid that is newer.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from flexinfer.api.model import Metadata, Model
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
        self._claims: dict[str, dict[str, None]] = {}  # alias -> keys of the Models that have it
        self._deleted: dict[str, int] = {}  # uid -> version of its deletion, oldest first
        self.models: Mapping[str, Model] = MappingProxyType(self._models)
        self.version = 0

    def keys_of_alias(self, alias: str) -> Sequence[str]:
        """Return the keys of the Models that have an alias."""
        return tuple(self._claims.get(alias, ()))

    def observe(self, model: Model) -> Change | None:
        """Take a Model from the stream; None if that changes nothing."""
        version = version_of(model.metadata)
        if version is None or version <= self._deleted.get(model.uid, -1):
            return None
        self.version = max(self.version, version)
        current = self._models.get(model.key)
        if current is not None and (version < current.metadata.version or _same(current, model.uid, version)):
            return None
        return self._put(model)

    def confirm(self, model: Model) -> Change | None:
        """Take a Model as the API server answered, whatever was observed before; None if that changes nothing."""
        version = version_of(model.metadata)
        if version is None:
            return None
        self.version = max(self.version, version)
        self._deleted.pop(model.uid, None)
        current = self._models.get(model.key)
        if current is not None and _same(current, model.uid, version):
            return None
        return self._put(model)

    def delete(self, key: str, uid: str, version: int) -> Change | None:
        """Drop a Model of that uid; it returns only with a higher version. None if that changes nothing."""
        version = min(version, _LARGEST_VERSION)
        self.version = max(self.version, version)
        self._note_deleted(uid, version)
        current = self._models.get(key)
        if current is None or current.uid != uid:
            return None
        del self._models[key]
        self._claim(current, None)
        return Change(current, None)

    def replace(self, observed: Iterable[events.AnyEvent]) -> list[Change]:
        """Replace all Models by a replay of the stream, but for those of the same uid that are newer here."""
        replayed = ModelTable()
        replayed._deleted = dict(self._deleted)
        for event in observed:
            replayed.apply(event)
        newer = [
            model
            for key, model in self._models.items()
            if (other := replayed.models.get(key)) is not None
            and other.uid == model.uid
            and other.metadata.version < model.metadata.version
        ]
        for model in newer:
            replayed.observe(model)
        self._deleted, self.version = replayed._deleted, replayed.version
        return list(self._become(replayed.models))

    def apply(self, event: events.AnyEvent) -> Change | None:
        """Apply an event of the stream; None if that changes nothing."""
        match event:
            case events.ModelObserved(model=model):
                return self.observe(model)
            case events.ModelDeleted(namespace=namespace, name=name, uid=uid, version=version):
                return self.delete(f"{namespace}/{name}", uid, version)
            case _:
                return None

    def _become(self, models: Mapping[str, Model]) -> Iterable[Change]:
        for key in [key for key in self._models if key not in models]:
            current = self._models.pop(key)
            self._claim(current, None)
            yield Change(current, None)
        for key, model in models.items():
            if self._models.get(key) is not model:
                yield self._put(model)

    def _put(self, model: Model) -> Change:
        current = self._models.get(model.key)
        if current is not None and current.uid != model.uid:
            self._note_deleted(current.uid, model.metadata.version)
        self._models[model.key] = model
        self._claim(current, model)
        return Change(current, model)

    def _claim(self, before: Model | None, after: Model | None) -> None:
        """Keep the index of aliases."""
        if before is not None:
            for alias in aliases(before):
                keys = self._claims.get(alias, {})
                keys.pop(before.key, None)
                if not keys:
                    self._claims.pop(alias, None)
        if after is not None:
            for alias in aliases(after):
                self._claims.setdefault(alias, {})[after.key] = None

    def _note_deleted(self, uid: str, version: int) -> None:
        self._deleted[uid] = max(version, self._deleted.get(uid, 0))
        if len(self._deleted) > _DELETIONS_KEPT:
            self._deleted.pop(next(iter(self._deleted)))


def aliases(model: Model) -> tuple[str, ...]:
    """Return the further names by which clients may ask for a Model."""
    litellm = model.spec.litellm
    if litellm is None or not litellm.enabled:
        return ()
    return (*((litellm.served_model_name,) if litellm.served_model_name else ()), *litellm.aliases)


def version_of(metadata: Metadata) -> int | None:
    """Return the resourceVersion of an object that an API server can hold, else None."""
    named = metadata.uid and metadata.name and metadata.namespace
    if not named or max(len(metadata.name), len(metadata.namespace)) > _LONGEST_NAME:
        return None
    try:
        version = metadata.version
    except ValueError:
        return None
    return version if 0 <= version <= _LARGEST_VERSION else None


def _same(current: Model, uid: str, version: int) -> bool:
    return current.uid == uid and current.metadata.version == version
