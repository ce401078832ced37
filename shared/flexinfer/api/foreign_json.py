"""JSON that others wrote: an engine, the program of a Pod, a registry. Pure, and total: whatever it is, reading it raises one error and no other."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


class ForeignJsonError(ValueError):
    """A text is not JSON of the expected form; the message says why."""


def read_json(text: bytes | str | msgspec.Raw, kind: type[T]) -> T:
    """Return JSON as a type. Raises ForeignJsonError, also for what is not UTF-8, half of a surrogate pair, and what is nested too deep."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ForeignJsonError(str(error)) from error
