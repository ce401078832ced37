"""nearest: the name that a mistyped one was probably meant to be. Pure."""

from collections.abc import Iterable


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the name that is most like another one; None if none is like it."""
    import difflib  # noqa: PLC0415 -- 0.2 MiB in each process, for the message of a mistake

    return next(iter(difflib.get_close_matches(name, sorted(names), 1)), None)
