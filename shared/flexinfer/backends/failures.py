"""Failures: which line of an engine's output says why it failed, and what helps; the last line often says only that it did. Pure."""

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec


class Kind(StrEnum):
    """What is wrong, as far as it decides what helps."""

    MISSING = "missing"
    BROKEN = "broken"
    ARCHITECTURE = "architecture"
    MEMORY = "memory"
    OTHER = "other"


REMEDIES: Mapping[Kind, str] = {
    Kind.MISSING: "check that spec.source and spec.config name what is in the volume",
    Kind.BROKEN: "the weights are damaged or incomplete: fetch them again",
    Kind.ARCHITECTURE: "use a newer image in spec.image, or another backend that supports this model",
}
"""What helps; of memory each backend says it itself, by its own keys."""


class Failure(msgspec.Struct, frozen=True):
    """A line that names the cause of a failed start. `cause` is what is quoted of it, a template of re with the pattern's groups."""

    pattern: str
    kind: Kind = Kind.OTHER
    cause: str = r"\1"


class Cause(msgspec.Struct, frozen=True):
    """Why an engine failed; empty if no line names it."""

    text: str = ""
    kind: Kind = Kind.OTHER


def cause(failures: Sequence[Failure], output: str) -> Cause:
    """Return the cause by the first of these failures that has a line in the output."""
    for failure in failures:
        line = re.search(failure.pattern, output, re.MULTILINE)
        if line is not None:
            return Cause(" ".join(line.expand(failure.cause).split()), failure.kind)
    return Cause()
