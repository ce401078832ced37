"""The scheduler that `spec.config.scheduler` names, of those that a pipeline takes. Needs no torch."""

import importlib.util
from collections.abc import Iterable
from typing import Any


def chosen(kinds: Iterable[type], name: str) -> Any:
    """Return the class of that name, of those that diffusers says fit the pipeline. Raises ValueError that names the field and what fits.

    Of a class whose libraries are not installed diffusers has one that only raises an ImportError; its `_backends` are the libraries.
    """
    by_name = {kind.__name__: kind for kind in kinds}
    usable = sorted(other for other, kind in by_name.items() if not _missing(kind))
    if name in usable:
        return by_name[name]
    cause = ""
    if name in by_name:
        cause = f", which needs {' and '.join(_missing(by_name[name]))}, and this image has none of that"
    raise ValueError(
        f"spec.config.scheduler is {name}{cause}; this pipeline takes {', '.join(usable)}: choose one of them"
    )


def _missing(kind: type) -> list[str]:
    """Return the libraries that a class needs and that are not installed."""
    names: Iterable[str] = getattr(kind, "_backends", ())
    return [name for name in names if importlib.util.find_spec(name) is None]
