"""Structural schemas: a CRD's OpenAPI v3 schema compiled to a tree, once for each version of a definition.

Like apiextensions-apiserver/pkg/apiserver/schema. The walks over this tree are in `pruning_and_defaulting`
and `schema_validation`. Schemas are not checked for all rules of structural schemas; what is not supported is
a SchemaError.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from localkube.apiserver.cel_rules import Rule, compile_rules
from localkube.apiserver.resources import Object


class _Missing:
    """The type of MISSING, which stands for an absent value, as opposed to null."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final[Any] = _Missing()
_INT64: Final = 2**63
_INT32: Final = 2**31
Merging = Literal["atomic", "set", "map", "granular"]


class SchemaError(ValueError):
    """A schema that cannot be compiled.

    The message begins with the path of the unsupported or invalid part.
    """


@dataclass(slots=True)
class Limits:
    """The value validations of a node; None: not limited."""

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
class SchemaNode:
    """One node of a schema.

    `opaque`: nothing below it is pruned, defaulted or coerced, so walks can skip it.
    """

    types: tuple[str, ...] = ()
    properties: dict[str, "SchemaNode"] = field(default_factory=dict)
    additional: "SchemaNode | None" = None
    items: "SchemaNode | None" = None
    preserve: bool = False
    nullable: bool = False
    default: Any = MISSING
    defaults: tuple[tuple[str, Any], ...] = ()  # of the properties, as (name, value)
    required: tuple[str, ...] = ()
    enum: tuple[Any, ...] = ()
    limits: Limits | None = None
    pattern: re.Pattern[str] | None = None
    pattern_text: str = ""
    format: str = ""
    merging: Merging = "granular"
    keys: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()
    has_transition_rules: bool = False  # whether a rule here or below uses oldSelf
    all_of: tuple["SchemaNode", ...] = ()
    any_of: tuple["SchemaNode", ...] = ()
    one_of: tuple["SchemaNode", ...] = ()
    negation: "SchemaNode | None" = None
    opaque: bool = False
    has_rules: bool = False  # whether there is a rule here or below
    any_text: bool = False
    """Whether every string is valid here, so that walks can skip it."""

    def child(self, name: str) -> "SchemaNode | None":
        """Return the schema of a field, None if the field is not specified."""
        return self.properties.get(name) or self.additional


def compile_schema(schema: Object, path: str = "") -> SchemaNode:
    """Return the compiled schema.

    Raises SchemaError for what is not supported, RuleError for an invalid CEL rule.
    """
    for unknown in ("$ref", "patternProperties", "dependencies", "definitions", "additionalItems"):
        if unknown in schema:
            raise SchemaError(f"{path or 'schema'}.{unknown}: Forbidden: is not part of a structural schema")
    node = SchemaNode(
        types=_types(schema),
        properties={
            name: compile_schema(below, f"{path}.properties[{name}]")
            for name, below in schema.get("properties", {}).items()
        },
        additional=_compile_additional(schema, path),
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
    _check_field_paths(node, path)
    node.pattern = _pattern(node.pattern_text, path)
    _compile_junctors(node, schema, path)
    _derive(node)
    return node


def _check_field_paths(node: SchemaNode, path: str) -> None:
    """Raise SchemaError for a rule whose fieldPath is not a field of the schema that it stands at."""
    for index, rule in enumerate(node.rules):
        at: SchemaNode | None = node
        for name in rule.field_path.split(".")[1:]:
            at = at.child(name) if at is not None else None
        if at is None or (rule.field_path and not rule.field_path.startswith(".")):
            where = f"{path}.x-kubernetes-validations[{index}].fieldPath"
            raise SchemaError(f'{where}: Invalid value: "{rule.field_path}": must be a valid path')


def _types(schema: Object) -> tuple[str, ...]:
    if schema.get("x-kubernetes-int-or-string"):
        return ("integer", "string")
    kind = schema.get("type")
    return (kind,) if kind else ()


def _compile_additional(schema: Object, path: str) -> SchemaNode | None:
    below = schema.get("additionalProperties")
    if isinstance(below, dict):
        return compile_schema(below, f"{path}.additionalProperties")
    return SchemaNode(preserve=True, opaque=True) if below is True else None


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
    values = {field: schema[keyword] for keyword, field in names.items() if keyword in schema}
    return Limits(**values) if values else None


def _merging(schema: Object) -> Merging:
    if schema.get("type") == "array":
        list_type: Merging = schema.get("x-kubernetes-list-type", "atomic")
        return list_type
    return "atomic" if schema.get("x-kubernetes-map-type") == "atomic" else "granular"


def _pattern(text: str, path: str) -> re.Pattern[str] | None:
    """Compile a pattern with the semantics of Go: `$` matches only at the very end, not before a newline."""
    if not text:
        return None
    try:
        return re.compile(re.sub(r"(?<!\\)\$(?![^\[]*\])", r"\\Z", text))
    except re.error as error:
        raise SchemaError(f'{path}.pattern: Invalid value: "{text}": {error}') from error


def _compile_junctors(node: SchemaNode, schema: Object, path: str) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        schema = {key: value for key, value in schema.items() if key not in ("anyOf", "allOf")}
    node.all_of = _compile_all(schema, "allOf", path)
    node.any_of = _compile_all(schema, "anyOf", path)
    node.one_of = _compile_all(schema, "oneOf", path)
    node.negation = compile_schema(schema["not"], f"{path}.not") if "not" in schema else None


def _compile_all(schema: Object, name: str, path: str) -> tuple[SchemaNode, ...]:
    return tuple(compile_schema(child, f"{path}.{name}[{i}]") for i, child in enumerate(schema.get(name, ())))


def _derive(node: SchemaNode) -> None:
    """Set the fields that summarize the nodes below, so that walks can skip whole subtrees."""
    below = [*node.properties.values(), *(p for p in (node.additional, node.items) if p)]
    node.has_transition_rules = any(rule.transition for rule in node.rules) or any(
        p.has_transition_rules for p in below
    )
    node.has_rules = bool(node.rules) or any(p.has_rules for p in below)
    node.defaults = tuple(
        (name, p.default) for name, p in node.properties.items() if p.default is not MISSING
    )
    rules_of_values = node.enum or node.limits or node.pattern or node.format
    junctors = node.all_of or node.any_of or node.one_of or node.negation
    node.any_text = (not node.types or "string" in node.types) and not rules_of_values and not junctors
    integer = node.types == ("integer",)
    prunes = "object" in node.types and not node.preserve
    node.opaque = not prunes and not integer and all(p.opaque for p in below)


def whole_range(node: SchemaNode) -> tuple[int, int]:
    """Return the least and the greatest integer of the format, int64 by default."""
    bound = _INT32 if node.format == "int32" else _INT64
    return -bound, bound - 1


def kind_of(value: Any) -> str:
    """Return the JSON type of a value."""
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
