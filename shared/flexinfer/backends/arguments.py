"""Arguments: `spec.config.extraArgs`, the way to an engine's flags that no key stands for. Pure.

They are appended to the engine's command line, one string an argument, and no shell reads them. What would take the engine from FlexInfer
is refused by name: its address, its API keys, what loads code or weights from elsewhere, and what a key of `spec.config` already sets.
"""

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

import msgspec

from flexinfer.backends.options import ARGUMENTS, Key

EXTRA = "extraArgs"
OURS = "FlexInfer sets it"
KEYS_OF_API = "the proxy has no key for the engine, and every request would be refused"
CODE = "it loads code into the engine"
ELSEWHERE = "it loads weights that FlexInfer has neither fetched nor counted"
ENDS = "the engine prints something and ends"
DEVICES = "the placement chooses the devices"
KEY = Key(
    ARGUMENTS,
    "Arguments that are appended to the engine's command line as they are, unchecked but for those refused below.",
    becomes="the arguments themselves",
)


class Extra(msgspec.Struct, frozen=True, kw_only=True):
    """Which arguments an engine may not be given, and how it reads a flag.

    `denied` is flag, or pattern (fnmatch), -> why. `spellings` is another spelling of a flag -> the one in `denied` or in a key.
    """

    denied: Mapping[str, str]
    spellings: Mapping[str, str] = {}
    abbreviated: bool = True
    """Whether the engine takes `--ho` for `--host`, as Python's argparse does."""

    def faults(self, values: object, keys: Mapping[str, Key]) -> Iterator[str]:
        """Yield a sentence on each argument that may not be given; values that are not lists of strings are refused elsewhere."""
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            return
        if values and not values[0].startswith("-"):
            yield f"spec.config.{EXTRA} begins with {values[0]!r}, which is not a flag; begin with one, such as --flag"
        for value in values:
            if value.startswith("-") and (why := self._why_not(value, keys)):
                yield f"spec.config.{EXTRA} has {value!r}: {why}"

    def _why_not(self, argument: str, keys: Mapping[str, Key]) -> str:
        name = flag_of(argument)
        if name.strip("-") == "":
            return "it is not a flag; remove it"
        name = self.spellings.get(name, name)
        for pattern, why in self.denied.items():
            if fnmatchcase(name, pattern):
                return f"{why}; remove it"
        for key, definition in keys.items():
            if name in definition.sets:
                return f"{key} sets it; use spec.config.{key}"
        return self._why_not_short(name, keys)

    def _why_not_short(self, name: str, keys: Mapping[str, Key]) -> str:
        """Say of which refused flag a name may be an abbreviation."""
        denied_flags = [*self.denied, *(flag for key in keys.values() for flag in key.sets), *self.spellings]
        whole = next((flag for flag in denied_flags if flag.startswith(name) and name.startswith("--")), "")
        return f"it could be read as {whole}; write the flag in full" if self.abbreviated and whole else ""


def flag_of(argument: str) -> str:
    """Return the flag of an argument as its parser knows it: without a value, and with `-` for `_`."""
    name = argument.partition("=")[0]
    return name.partition(".")[0].replace("_", "-") if name.startswith("--") else name


def appended(config: Mapping[str, object]) -> Sequence[str]:
    """Return the extra arguments of a config; none if they are no list."""
    values = config.get(EXTRA)
    return [str(value) for value in values] if isinstance(values, list) else []
