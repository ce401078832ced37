"""Options: the keys of `spec.config` that an engine accepts, how a value is checked, and the flag that it becomes. Pure.

`spec.config` is an allow-list: a key that an engine does not know, or a value of the wrong type, is refused by name rather than dropped.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

TEXT, INTEGER, NUMBER = "string", "integer", "number"
SWITCH, TEXTS, PATH = "boolean", "list of strings", "relative path"
_FORMS: Mapping[str, str] = {
    TEXT: "a string",
    INTEGER: "an integer",
    NUMBER: "a number",
    SWITCH: "true or false",
    TEXTS: "a list of strings, or one string with commas",
    PATH: "a path below the model, without `..`",
}
_MAX_LENGTH = 4096
_LARGEST = 2**63 - 1


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """One key of `spec.config`: its type, what it means, and what it becomes on the engine's command line.

    `flag` is written by `flags`; a key without one is read by the backend itself, and `becomes` says what it makes of it.
    `off` is the flag for false, for switches that the engine turns on by default.
    """

    type: str
    doc: str
    flag: str = ""
    off: str = ""
    becomes: str = ""
    choices: tuple[str, ...] = ()
    least: float = 0
    absolute: bool = False
    """For a path: whether it may also be an absolute path inside the container."""


DOWNLOAD_KEYS: dict[str, Key] = {
    "hfRevision": Key(
        type=TEXT,
        doc="Branch, tag or commit of the Hugging Face repository; the default branch if absent.",
    ),
    "hfAllowPatterns": Key(type=TEXTS, doc="Download only files that match one of these glob patterns."),
    "hfIgnorePatterns": Key(type=TEXTS, doc="Do not download files that match one of these glob patterns."),
    "allowUnsafeFormats": Key(
        type=SWITCH,
        doc="Download files that can run code when they are loaded too: pickles, code. They are left out if absent.",
    ),
}
"""Accepted by every engine that serves HF:// sources; `sources.hf` reads them."""


def flags(config: Mapping[str, Any], keys: Mapping[str, Key]) -> list[str]:
    """Return the flags of those config keys that are plain flags, in the allow-list's order."""
    arguments: list[str] = []
    for name, key in keys.items():
        value = config.get(name)
        if value is None or not (key.flag or key.off):
            continue
        if key.type == SWITCH:
            arguments += [flag for flag in ((key.flag if value else key.off),) if flag]
        else:
            arguments += [key.flag, ",".join(texts(value)) if key.type == TEXTS else _written(value)]
    return arguments


def texts(value: str | list[str]) -> list[str]:
    """Return a list of strings, or one string with commas, as a list without blank items."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


def whole(config: Mapping[str, Any], name: str, default: int) -> int:
    """Return an integer of the config, `default` when absent or when the value is none: it is refused elsewhere."""
    value = config.get(name, default)
    return int(value) if _is_finite(value) else default


def fault(key: Key, value: object) -> str:
    """Return what is wrong with a value, as the end of a sentence; empty when it is valid."""
    form = _FORMS[key.type]
    if key.type == SWITCH:
        return "" if isinstance(value, bool) else f"must be {form}"
    if key.type in (INTEGER, NUMBER):
        return _number_fault(key, value, form)
    if key.type == TEXTS:
        items = [value] if isinstance(value, str) else value
        if not _is_texts(items):
            return f"must be {form}"
        return next((wrong for item in items if (wrong := _text_fault(item))), "")
    if not isinstance(value, str) or not value:
        return f"must be {form}"
    if key.type == PATH:
        return _text_fault(value) or _path_fault(key, value)
    if key.choices and value not in key.choices:
        return f"must be one of {', '.join(key.choices)}"
    return _text_fault(value)


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _written(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _is_finite(value: object) -> TypeGuard[int | float]:
    """Tell a number that an engine may have from one that only JSON can write."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _number_fault(key: Key, value: object, form: str) -> str:
    if not _is_finite(value):
        return f"must be {form}"
    if key.type == INTEGER and value != int(value):
        return f"must be {form}"
    return f"must be at least {key.least:g}" if value < key.least else ""


def _text_fault(value: str) -> str:
    if value.startswith("-"):
        return "must not begin with `-`, which the engine would read as a flag"
    if not value.isprintable() or len(value) > _MAX_LENGTH:
        return f"must be one printable line of at most {_MAX_LENGTH} characters"
    return ""


def _path_fault(key: Key, value: str) -> str:
    if value.startswith("/") and not key.absolute:
        return f"must be {_FORMS[PATH]}, and may not begin with /"
    return f"must be {_FORMS[PATH]}" if ".." in value.split("/") else ""
