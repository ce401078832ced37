"""Touched keys: what a companion of a controller looks at once it has been given the newest state."""

from collections.abc import Iterable


class TouchedKeys:
    """The base of a companion that looks at the Models which something has touched, and at no others."""

    def __init__(self) -> None:
        self._touched: set[str] = set()

    def touch(self, keys: Iterable[str]) -> Iterable[str]:
        """Look at these Models when the newest state has come; returns the keys."""
        touched_keys = tuple(keys)
        self._touched.update(touched_keys)
        return touched_keys
