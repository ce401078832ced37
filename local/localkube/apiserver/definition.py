"""Definition: one served kind, and how the versions of a CustomResourceDefinition become definitions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from localkube.apiserver.cel_rules import Rule, RuleError
from localkube.apiserver.errors import Cause, invalid
from localkube.apiserver.metadata_schema import object_meta_schema
from localkube.apiserver.metadata_validation import NameStyle
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.schema_validation import INVALID
from localkube.apiserver.structural_schema import SchemaError, SchemaNode, compile_schema

Normalise = Callable[[Object, Object | None], Object]
Validate = Callable[[Object, Object | None], Iterable[Cause]]
_ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Column:
    """An additionalPrinterColumn of a custom resource; priority 1 is shown by `-o wide` only."""

    name: str
    type: str
    json_path: str
    format: str = ""
    priority: int = 0
    description: str = ""


AGE = Column("Age", "date", ".metadata.creationTimestamp")


def unchanged(obj: Object, _old: Object | None) -> Object:
    """Return the object itself."""
    return obj


def no_causes(_obj: Object, _old: Object | None) -> Iterable[Cause]:
    """Return no causes: the schema alone validates the kind."""
    return ()


@dataclass(frozen=True, slots=True)
class Definition:
    """A served kind: its resource, its schema, as JSON and compiled, and what a schema cannot express.

    `normalise` completes an object before it is validated; `validate` compares it with the previous one,
    None for a new one.
    """

    resource: Resource
    schema: Object
    node: SchemaNode
    rules: tuple[Rule, ...] = ()
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    name_style: NameStyle = "subdomain"
    normalise: Normalise = unchanged
    validate: Validate = no_causes


def define(  # noqa: PLR0913 -- the fields of a Definition
    resource: Resource,
    schema: Object,
    *,
    columns: tuple[Column, ...] = (),
    selectable: tuple[str, ...] = (),
    name_style: NameStyle = "subdomain",
    normalise: Normalise = unchanged,
    validate: Validate = no_causes,
) -> Definition:
    """Return the definition of a kind; ObjectMeta and TypeMeta are added to its schema.

    Raises SchemaError or RuleError when the schema or one of its CEL rules does not compile.
    """
    whole = _with_metadata(schema)
    node = compile_schema(whole, "openAPIV3Schema")
    # the rules of the root see only the names in metadata, so _causes evaluates them on a view
    rules, node.rules = node.rules, ()
    node.has_rules = any(below.has_rules for below in node.properties.values())
    return Definition(
        resource=resource,
        schema=whole,
        node=node,
        rules=rules,
        columns=columns,
        selectable=(*_ALWAYS_SELECTABLE, *selectable),
        name_style=name_style,
        normalise=normalise,
        validate=validate,
    )


def _with_metadata(schema: Object) -> Object:
    properties = schema.get("properties", {})
    whole = {
        "apiVersion": {"type": "string"} | properties.get("apiVersion", {}),
        "kind": {"type": "string"} | properties.get("kind", {}),
        "metadata": object_meta_schema(properties.get("metadata")),
    }
    rest = {name: below for name, below in properties.items() if name not in whole}
    return {"type": "object"} | schema | {"properties": whole | rest}


def definitions_of(crd: Object) -> tuple[Definition, ...]:
    """Return a definition for each served version of a CustomResourceDefinition.

    Raises ApiError 422 with the path of the part of its schema that is not supported.
    """
    spec = crd["spec"]
    try:
        return tuple(_of_version(spec, version) for version in spec["versions"] if version["served"])
    except (SchemaError, RuleError, KeyError, TypeError) as error:
        res = Resource(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            namespaced=False,
        )
        path, _, message = str(error).partition(": ")
        cause = Cause(INVALID, message or str(error), f"spec.versions.schema.{path}")
        raise invalid(res, crd["metadata"]["name"], [cause]) from error


def _of_version(spec: Object, version: Object) -> Definition:
    names = spec["names"]
    resource = Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        kind=names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names.get("singular", names["kind"].lower()),
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        subresources=frozenset(name for name in ("status",) if name in version.get("subresources", {})),
    )
    return define(
        resource,
        version["schema"]["openAPIV3Schema"],
        columns=tuple(_column(column) for column in version.get("additionalPrinterColumns", ())) or (AGE,),
        selectable=tuple(
            field["jsonPath"].removeprefix(".") for field in version.get("selectableFields", ())
        ),
    )


def _column(spec: Object) -> Column:
    return Column(
        name=spec["name"],
        type=spec["type"],
        json_path=spec["jsonPath"],
        format=spec.get("format", ""),
        priority=spec.get("priority", 0),
        description=spec.get("description", ""),
    )
