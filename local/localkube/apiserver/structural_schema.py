"""Structural schemas, compiled: a CRD's OpenAPI v3 schema as a tree of parts that is walked for every write.

Compiling happens once a definition. What a walk does lies in `shaping` (prune, default) and `checking` (validate); this module
only knows what a schema says.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from localkube.apiserver.cel_rules import Rule, compile_rules
from localkube.apiserver.resources import Object


class _Missing:
    """Tell an absent value from null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
_INT64: Final = 2**63
_INT32: Final = 2**31
Merging = Literal["atomic", "set", "map", "granular"]


class SchemaError(ValueError):
    """A schema that cannot be compiled, with the path of the part that is wrong."""


@dataclass(slots=True)
class Limits:
    """The bounds of one part; a None bounds nothing."""

    minimum: float | None = None
    maximum: float | None = None
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    min_length: int | None = None
    max_length: int | None = None
    min_items: int | None = None
    max_items: int | None = None
    min_properties: int | None = None
    max_properties: int | None = None
    multiple_of: float | None = None


@dataclass(slots=True)
class Part:
    """One node of a schema. `opaque`: nothing below it is pruned, defaulted or coerced."""

    types: tuple[str, ...] = ()
    properties: dict[str, "Part"] = field(default_factory=dict)
    additional: "Part | None" = None
    items: "Part | None" = None
    preserve: bool = False
    nullable: bool = False
    default: Any = MISSING
    defaults: tuple[tuple[str, Any], ...] = ()  # those of the properties, as (name, value)
    required: tuple[str, ...] = ()
    enum: tuple[Any, ...] = ()
    limits: Limits | None = None
    pattern: re.Pattern[str] | None = None
    pattern_text: str = ""
    format: str = ""
    merging: Merging = "granular"
    keys: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    transitions: bool = False  # whether a rule here or below compares with the former value
    all_of: tuple["Part", ...] = ()
    any_of: tuple["Part", ...] = ()
    one_of: tuple["Part", ...] = ()
    negated: "Part | None" = None
    opaque: bool = False
    ruled: bool = False  # whether there is a rule here or below

    def child(self, name: str) -> "Part | None":
        """Return what a field of that name must look like, None where nothing is said."""
        return self.properties.get(name) or self.additional


def compile_schema(schema: Object, path: str = "") -> Part:
    """Return the compiled schema; SchemaError when it says something that is not offered here."""
    for unknown in ("$ref", "patternProperties", "dependencies", "definitions", "additionalItems"):
        if unknown in schema:
            raise SchemaError(f"{path or 'schema'}.{unknown}: Forbidden: is not part of a structural schema")
    part = Part(
        types=_types(schema),
        properties={
            name: compile_schema(below, f"{path}.properties[{name}]")
            for name, below in schema.get("properties", {}).items()
        },
        additional=_additional(schema, path),
        items=compile_schema(schema["items"], f"{path}.items") if "items" in schema else None,
        preserve=bool(schema.get("x-kubernetes-preserve-unknown-fields")),
        nullable=bool(schema.get("nullable")),
        default=schema.get("default", MISSING),
        required=tuple(schema.get("required", ())),
        enum=tuple(schema.get("enum", ())),
        limits=_limits(schema),
        pattern_text=schema.get("pattern", ""),
        format=schema.get("format", ""),
        merging=_merging(schema),
        keys=tuple(schema.get("x-kubernetes-list-map-keys", ())),
        rules=compile_rules(schema.get("x-kubernetes-validations", ()), path),
    )
    part.pattern = _pattern(part.pattern_text, path)
    _compile_junctors(part, schema, path)
    _derive(part)
    return part


def _types(schema: Object) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    kind = schema.get("type")
    return (kind,) if kind else ()


def _additional(schema: Object, path: str) -> Part | None:
    below = schema.get("additionalProperties")
    if isinstance(below, dict):
        return compile_schema(below, f"{path}.additionalProperties")
    return Part(preserve=True, opaque=True) if below is True else None


def _limits(schema: Object) -> Limits | None:
    names = {
        "minimum": "minimum",
        "maximum": "maximum",
        "exclusiveMinimum": "exclusive_minimum",
        "exclusiveMaximum": "exclusive_maximum",
        "minLength": "min_length",
        "maxLength": "max_length",
        "minItems": "min_items",
        "maxItems": "max_items",
        "minProperties": "min_properties",
        "maxProperties": "max_properties",
        "multipleOf": "multiple_of",
    }
    said = {ours: schema[theirs] for theirs, ours in names.items() if theirs in schema}
    return Limits(**said) if said else None


def _merging(schema: Object) -> Merging:
    if schema.get("type") == "array":
        said: Merging = schema.get("x-kubernetes-list-type", "atomic")
        return said
    return "atomic" if schema.get("x-kubernetes-map-type") == "atomic" else "granular"


def _pattern(text: str, path: str) -> re.Pattern[str] | None:
    """Compile a pattern as Go reads it, where `$` is the very end and never before a last line break."""
    if not text:
        return None
    try:
        return re.compile(re.sub(r"(?<!\\)\$(?![^\[]*\])", r"\\Z", text))
    except re.error as error:
        raise SchemaError(f'{path}.pattern: Invalid value: "{text}": {error}') from error


def _compile_junctors(part: Part, schema: Object, path: str) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        schema = {key: value for key, value in schema.items() if key not in ("anyOf", "allOf")}
    part.all_of = _several(schema, "allOf", path)
    part.any_of = _several(schema, "anyOf", path)
    part.one_of = _several(schema, "oneOf", path)
    part.negated = compile_schema(schema["not"], f"{path}.not") if "not" in schema else None


def _several(schema: Object, name: str, path: str) -> tuple[Part, ...]:
    return tuple(compile_schema(one, f"{path}.{name}[{i}]") for i, one in enumerate(schema.get(name, ())))


def _derive(part: Part) -> None:
    """Note what the walks want to know at once."""
    below = [*part.properties.values(), *(p for p in (part.additional, part.items) if p)]
    part.transitions = any(rule.transition for rule in part.rules) or any(p.transitions for p in below)
    part.ruled = bool(part.rules) or any(p.ruled for p in below)
    part.defaults = tuple(
        (name, p.default) for name, p in part.properties.items() if p.default is not MISSING
    )
    integer = part.types == ("integer",)
    prunes = "object" in part.types and not part.preserve
    part.opaque = not prunes and not integer and all(p.opaque for p in below)


def whole_range(part: Part) -> tuple[int, int]:
    """Return the least and the greatest whole number that the format can hold."""
    bound = _INT32 if part.format == "int32" else _INT64
    return -bound, bound - 1


def kind_of(value: Any) -> str:
    """Return JSON's word for a value's type."""
    kinds: Mapping[type, str] = _KINDS
    return kinds.get(type(value), "object")


_KINDS: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}
