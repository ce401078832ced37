"""Cells of Markdown tables."""

import inspect
from collections.abc import Iterable


def codes(texts: Iterable[str]) -> str:
    """Return texts as code, with commas between them."""
    return ", ".join(f"`{text}`" for text in texts)


def code(value: object) -> str:
    """Return a default as code, true and false as YAML has them; `empty` for an empty text or what is neither text nor number."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`" if isinstance(value, str | int | float) and value != "" else "empty"


def cell(text: str) -> str:
    """Return a text on one line that a table cell can hold."""
    return " ".join(text.split()).replace("|", "\\|")


def first_line(kind: type) -> str:
    """Return the first line of the docstring of a class."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]
