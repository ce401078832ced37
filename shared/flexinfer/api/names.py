"""Names: by what clients of the proxy may ask for a Model, besides its own name. Pure.

An alias is of one Model. A label is a purpose that several Models may serve; it has no case. Within a namespace a Model's own name
comes before an alias, and that before a label.
"""

from collections.abc import Iterable, Iterator, Sequence

from flexinfer.api.model import Model

_NAME, _ALIAS, _LABEL = "name", "alias", "label"


def aliases(model: Model) -> tuple[str, ...]:
    """Return the names of spec.litellm that differ from the Model's own: servedModelName, aliases and copilotAlias."""
    litellm = model.spec.litellm
    if litellm is None or not litellm.enabled:
        return ()
    names = (litellm.served_model_name, *litellm.aliases, litellm.copilot_alias)
    return tuple(dict.fromkeys(name for name in names if name and name != model.metadata.name))


def labels(model: Model) -> tuple[str, ...]:
    """Return spec.serviceLabels as they are compared: without case."""
    return tuple(dict.fromkeys(label.casefold() for label in model.spec.service_labels))


class NameIndex:
    """Name -> the keys of the Models that have it, kept by changes."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[str, None]] = {}

    def keys(self, name: str) -> Sequence[str]:
        """Return the keys of the Models that have a name, in the order in which they took it."""
        return tuple(self._keys.get(name, ()))

    def add(self, key: str, names: Iterable[str]) -> None:
        """Note that a Model has these names."""
        for name in names:
            self._keys.setdefault(name, {})[key] = None

    def discard(self, key: str, names: Iterable[str]) -> None:
        """Note that a Model has these names no more."""
        for name in names:
            keys = self._keys.get(name, {})
            keys.pop(key, None)
            if not keys:
                self._keys.pop(name, None)


def claims(model: Model) -> tuple[str, ...]:
    """Return what a Model is called in any way, in its namespace and without case: two Models that share none have no conflict."""
    names = (model.metadata.name, *aliases(model), *labels(model))
    return tuple(dict.fromkeys(f"{model.metadata.namespace}/{name.casefold()}" for name in names))


def conflicts(model: Model, others: Iterable[Model]) -> tuple[str, ...]:
    """Return a phrase for each name of a Model that also means another one of its namespace.

    Models may share a label: that is what labels are for.
    """
    return tuple(
        f"{name} ({use} here, {theirs} of {other.metadata.name})"
        for other in sorted(others, key=lambda other: other.key)
        for name, use in _uses(model)
        for their_name, theirs in _uses(other)
        if _same(name, use, their_name, theirs)
    )


def _uses(model: Model) -> Iterator[tuple[str, str]]:
    """Yield every name of a Model and what it is."""
    yield model.metadata.name, _NAME
    yield from ((alias, _ALIAS) for alias in aliases(model))
    yield from ((label, _LABEL) for label in labels(model))


def _same(name: str, use: str, their_name: str, theirs: str) -> bool:
    if use == theirs == _LABEL:
        return False
    if _LABEL in (use, theirs):
        return name.casefold() == their_name.casefold()
    return name == their_name
