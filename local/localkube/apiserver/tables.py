"""Tables and PartialObjectMetadata: the representations that clients request by the Accept header.

Like apiserver/pkg/endpoints/handlers/response.go and registry/rest/table.go. The columns of built-in kinds
come from `printers`, those of custom resources from additionalPrinterColumns; a kind with neither has its
name and age.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from localkube.apiserver import human_duration, jsonpath
from localkube.apiserver.definition import Column
from localkube.apiserver.errors import bad_request
from localkube.apiserver.printers import PRINTERS
from localkube.apiserver.printing import Printer
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import Listing
from localkube.apiserver.resources import Object, Resource

META = "meta.k8s.io/v1"
INCLUDES = ("", "None", "Metadata", "Object")
_NAME_COLUMN = {
    "name": "Name",
    "type": "string",
    "format": "name",
    "description": "Name must be unique within a namespace.",
    "priority": 0,
}


@dataclass(frozen=True, slots=True)
class Form:
    """The representation of a response: whole objects, their metadata, or a Table.

    `include` is its includeObject.
    """

    name: str = ""  # "", "Table" or "PartialObjectMetadata"
    include: str = ""

    @property
    def is_table(self) -> bool:
        """Return whether the response is a Table."""
        return self.name == "Table"


def form(kind: str, include: str) -> Form:
    """Return the form of the Accept header's `as` and the query's includeObject.

    Raises ApiError 400 for another value.
    """
    if kind == "Table" and include not in INCLUDES:
        raise bad_request(
            f'Unable to convert to Table as requested: includeObject: Invalid value: "{include}": '
            "must be one of None, Metadata, Object"
        )
    return Form(kind.removesuffix("List"), include)


class ResponseTransformer:
    """Transforms stored objects to the representation that a client requested."""

    def __init__(self, registry: Registry, now: Callable[[], datetime]) -> None:
        self._registry = registry
        self._now = now

    def one(self, res: Resource, obj: Object, form: Form) -> Object:
        """Return an object in a form."""
        if form.is_table:
            return self.table(
                res, [obj], form, {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
            )
        return partial(obj) if form.name else obj

    def many(self, res: Resource, listing: Listing, form: Form) -> Object:
        """Return a list in a form."""
        metadata: Object = {"resourceVersion": listing.resource_version}
        if listing.continue_token:
            metadata["continue"] = listing.continue_token
        if listing.remaining is not None:
            metadata["remainingItemCount"] = listing.remaining
        if form.is_table:
            return self.table(res, listing.items, form, metadata)
        if form.name:
            items = [partial(item) for item in listing.items]
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": META,
                "metadata": metadata,
                "items": items,
            }
        return {
            "kind": f"{res.kind}List",
            "apiVersion": res.api_version,
            "metadata": metadata,
            "items": listing.items,
        }

    def table(
        self, res: Resource, items: Iterable[Object], form: Form, metadata: Object, *, headers: bool = True
    ) -> Object:
        """Return a Table; `headers` is False for all but the first event of a watch."""
        printer = printer_of(self._registry, res)
        now = self._now()
        return {
            "kind": "Table",
            "apiVersion": META,
            "metadata": metadata,
            "columnDefinitions": printer.columns if headers else None,
            "rows": [
                {"cells": printer.cells(item, now), "object": _row_object(item, form.include)}
                for item in items
            ],
        }


def partial(obj: Object) -> Object:
    """Return an object as PartialObjectMetadata."""
    return {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": obj["metadata"]}


def _row_object(obj: Object, include: str) -> Object | None:
    if include == "None":
        return None
    return obj if include == "Object" else partial(obj)


def printer_of(registry: Registry, res: Resource) -> Printer:
    """Return the printer of a resource."""
    printer = PRINTERS.get((res.group, res.kind))
    return printer or _by_columns(registry.columns(res))


def _by_columns(columns: Sequence[Column]) -> Printer:
    finders = [(column, jsonpath.compile_path(column.json_path)) for column in columns]

    def cells(obj: Object, now: datetime) -> list[Any]:
        return [obj["metadata"]["name"]] + [_cell(column, find(obj), now) for column, find in finders]

    return Printer((_NAME_COLUMN, *map(_header, columns)), cells)


def _header(column: Column) -> Object:
    description = f"Custom resource definition column (in JSONPath format): {column.json_path}"
    return {
        "name": column.name,
        "type": column.type,
        "format": column.format,
        "description": column.description or description,
        "priority": column.priority,
    }


def _cell(column: Column, matches: Sequence[Any], now: datetime) -> Any:
    value = matches[0] if matches else None
    if value is None:
        return None
    match column.type:
        case "string":
            return _text(value)
        case "date":
            return human_duration.since(value, now) if isinstance(value, str) else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "integer" | "number" if isinstance(value, int | float) and not isinstance(value, bool):
            return int(value) if column.type == "integer" else float(value)
        case _:
            return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return msgspec.json.encode(value).decode()
    return str(value)
