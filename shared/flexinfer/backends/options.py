"""Options: the keys of `spec.config` that an engine accepts, how a value is checked, and the flag that it becomes. Pure.

`spec.config` is an allow-list: a key that an engine does not know, or a value of the wrong type, is refused by name rather than dropped.
"""

from collections.abc import Mapping
from typing import Any, TypeGuard

import msgspec

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.nearest import nearest

TEXT, INTEGER, NUMBER = "string", "integer", "number"
SWITCH, TEXTS, PATH = "boolean", "list of strings", "relative path"
OBJECT, WHOLE_NUMBERS, ARGUMENTS = "object", "list of integers", "list of arguments"
_FORMS: Mapping[str, str] = {
    TEXT: "a string",
    INTEGER: "an integer",
    NUMBER: "a number",
    SWITCH: "true or false",
    TEXTS: "a list of strings, or one string with commas",
    PATH: "a path below the model, without `..`",
    OBJECT: "an object of keys and values, or a string that holds one as JSON",
    WHOLE_NUMBERS: "a list of integers of at least 1",
    ARGUMENTS: "a list of strings, one an argument",
}
_MAX_LENGTH = 4096
_MOST_ITEMS = 64
LARGEST = 2**63 - 1
_SHOWN = 40


class Key(msgspec.Struct, frozen=True):
    """One key of `spec.config`: its type, what it means, and what it becomes on the engine's command line.

    `flag` is written by `flags`; a key without one is read by the backend itself, and `becomes` says what it makes of it.
    `off` is the flag for false, for switches that the engine turns on by default. `default` is what counts where the key is absent.
    """

    type: str
    doc: str
    flag: str = ""
    off: str = ""
    becomes: str = ""
    default: str = ""
    choices: tuple[str, ...] = ()
    least: float = 0
    most: float = LARGEST
    absolute: bool = False
    """For a path: whether it may also be an absolute path inside the container."""

    @property
    def sets(self) -> tuple[str, ...]:
        """The flags or variables that the key stands for, without values."""
        return tuple(text.split(maxsplit=1)[0] for text in (self.flag or self.becomes, self.off) if text)


DOWNLOAD_KEYS: dict[str, Key] = {
    "hfRevision": Key(
        TEXT, "Branch, tag or commit of the Hugging Face repository.", default="the default branch"
    ),
    "hfAllowPatterns": Key(TEXTS, "Download only files that match one of these glob patterns."),
    "hfIgnorePatterns": Key(TEXTS, "Do not download files that match one of these glob patterns."),
    "allowUnsafeFormats": Key(
        SWITCH,
        "Download files that can run code when they are loaded too: pickles, code. They are left out if absent.",
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
        elif key.type == WHOLE_NUMBERS:
            arguments += [key.flag, *(written(number) for number in value)]
        else:
            arguments += [key.flag, written(value, key.type)]
    return arguments


def written(value: Any, kind: str = "") -> str:
    """Return a value as an engine reads it on its command line or in its environment."""
    if kind == TEXTS:
        return ",".join(texts(value))
    if kind == OBJECT and isinstance(value, str):
        value = msgspec.json.decode(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def texts(value: str | list[str]) -> list[str]:
    """Return a list of strings, or one string with commas, as a list without blank items."""
    parts = value.split(",") if isinstance(value, str) else value
    return [part.strip() for part in parts if part.strip()]


def whole(config: Mapping[str, Any], name: str, default: int) -> int:
    """Return an integer of the config, `default` when absent or when the value is none: it is refused elsewhere."""
    value = config.get(name, default)
    return int(value) if _is_finite(value) else default


def unknown(name: str, value: object, keys: Mapping[str, Key], owner: str) -> str:
    """Return what is wrong with a key that is none of the owner's `keys`, with the nearest of them, as the end of a sentence."""
    spellings = {_folded(key): key for key in keys}
    near = nearest(_folded(name), spellings)
    if near:
        key = spellings[near]
        remedy = f"did you mean {key}, {form(keys[key])}?"
    else:
        remedy = f"remove it, or use one of {', '.join(sorted(keys))}" if keys else "remove it"
    return f"({shown(value)}) is not a key of {owner}; {remedy}"


def fault(key: Key, value: object) -> str:
    """Return what is wrong with a value, as the end of a sentence; empty when it is valid."""
    rule = _expected(key, value)
    return f"is {shown(value)}{_kind(value)}; it {rule}" if rule else ""


def form(key: Key) -> str:
    """Return what a value of a key must be: `an integer of at least 1`."""
    if key.choices:
        return f"one of {', '.join(key.choices)}"
    if key.type not in (INTEGER, NUMBER):
        return _FORMS[key.type]
    most = f" and at most {key.most:g}" if key.most != LARGEST else ""
    return f"{_FORMS[key.type]} of at least {key.least:g}{most}"


def shown(value: object) -> str:
    """Return a value as the user wrote it, in JSON, cut to what a message has room for."""
    try:
        text = msgspec.json.encode(value).decode()
    except (TypeError, ValueError, UnicodeEncodeError):
        text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def text_fault(value: str) -> str:
    """Return why a string cannot be one value on a command line, as what it must be; empty when it can."""
    if value.startswith("-"):
        return "must not begin with `-`, which the engine would read as a flag"
    return line_fault(value)


def line_fault(value: str) -> str:
    """Return why a string cannot be one argument; empty when it can."""
    if not value.isprintable() or len(value) > _MAX_LENGTH:
        return f"must be one printable line of at most {_MAX_LENGTH} characters"
    return ""


def _folded(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _kind(value: object) -> str:
    """Name the type of a value where its look does not tell: `"8"` is a string."""
    return ", a string" if isinstance(value, str) else ""


def _expected(key: Key, value: object) -> str:
    """Return what a value must be, if it is not."""
    must = f"must be {form(key)}"
    match key.type:
        case "boolean":
            return "" if isinstance(value, bool) else must
        case "integer" | "number":
            return "" if _is_number(key, value) else must
        case "list of strings" | "list of arguments":
            return _texts_fault(key, value) or ""
        case "list of integers":
            return "" if _is_integers(value) else must
        case "object":
            return _object_fault(value)
        case _:
            return _string_fault(key, value)


def _string_fault(key: Key, value: object) -> str:
    must = f"must be {form(key)}"
    if not isinstance(value, str) or not value or (key.choices and value not in key.choices):
        return must
    return text_fault(value) or (_path_fault(key, value) if key.type == PATH else "")


def _texts_fault(key: Key, value: object) -> str:
    items = [value] if isinstance(value, str) and key.type == TEXTS else value
    if not _is_texts(items):
        return f"must be {form(key)}"
    if len(items) > _MOST_ITEMS:
        return f"must have at most {_MOST_ITEMS} items, not {len(items)}"
    check = line_fault if key.type == ARGUMENTS else text_fault
    return next((wrong for item in items if (wrong := check(item))), "")


def _object_fault(value: object) -> str:
    must = f"must be {_FORMS[OBJECT]}"
    if isinstance(value, str):
        try:
            value = read_json(value, object)
        except ForeignJsonError:
            return must
    if not isinstance(value, dict):
        return must
    try:
        return line_fault(msgspec.json.encode(value).decode())
    except (TypeError, ValueError, RecursionError):
        return must


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_integers(value: object) -> bool:
    items = value if isinstance(value, list) else []
    return 0 < len(items) <= _MOST_ITEMS and all(
        _is_finite(item) and 1 <= item == int(item) for item in items
    )


def _is_finite(value: object) -> TypeGuard[int | float]:
    """Tell a number that an engine may have from one that only JSON can write."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _is_number(key: Key, value: object) -> bool:
    return (
        _is_finite(value) and (key.type == NUMBER or value == int(value)) and key.least <= value <= key.most
    )


def _path_fault(key: Key, value: str) -> str:
    if value.startswith("/") and not key.absolute:
        return f"must be {_FORMS[PATH]}, and may not begin with /"
    return f"must be {_FORMS[PATH]}" if ".." in value.split("/") else ""
