"""The type of printers, builders of the columnDefinitions of a Table, and placeholders of empty cells."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from localkube.apiserver.resources import Object

Cells: TypeAlias = Callable[[Object, datetime], list[Any]]
NONE, UNSET = "<none>", "<unset>"


@dataclass(frozen=True, slots=True)
class Printer:
    """How a kind is printed: its columnDefinitions, and a function of an object and the time to its cells."""

    columns: Sequence[Object]
    cells: Cells


def columns(plain: str, wide: str = "") -> Sequence[Object]:
    """Return the definitions of columns named `A|B|C`.

    Those of `wide` have priority 1 and are shown by `-o wide` only.
    """

    def column(name: str, priority: int) -> Object:
        return {
            "name": name,
            "type": "integer" if name == "Data" else "string",
            "format": "name" if name == "Name" else "",
            "description": "",
            "priority": priority,
        }

    return [column(name, 0) for name in plain.split("|")] + [
        column(name, 1) for name in wide.split("|") if name
    ]


def name_of(obj: Object) -> str:
    """Return the name of an object."""
    return str(obj["metadata"]["name"])
