"""The registry: what kinds the local API offers, and whether an object of one of them may be stored.

Built-in kinds stand in `builtin_resources`; every CustomResourceDefinition that is written adds its own. It holds no objects.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from localkube.apiserver.cel_rules import Rule, RuleError
from localkube.apiserver.errors import Cause, StrictDecodingError, invalid
from localkube.apiserver.metadata_schema import object_meta_schema
from localkube.apiserver.metadata_validation import NameStyle, check_metadata
from localkube.apiserver.pruning_and_defaulting import shape
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.schema_validation import BLOCKING, INVALID, ask_rule, check
from localkube.apiserver.structural_schema import MISSING, Part, SchemaError, compile_schema

Normalise = Callable[[Object, Object | None], Object]
Judge = Callable[[Object, Object | None], Iterable[Cause]]
_ALWAYS_SELECTABLE = ("metadata.name", "metadata.namespace")


@dataclass(frozen=True, slots=True)
class Column:
    """One printer column of a custom resource; priority 1 is shown by `-o wide` alone."""

    name: str
    type: str
    json_path: str
    format: str = ""
    priority: int = 0
    description: str = ""


AGE = Column("Age", "date", ".metadata.creationTimestamp")


@dataclass(frozen=True, slots=True)
class Admitted:
    """An object as it is to be stored, and what its writer should be told."""

    obj: Object
    warnings: tuple[str, ...] = ()


def unchanged(obj: Object, _old: Object | None) -> Object:
    """Leave an object as it is."""
    return obj


def content(_obj: Object, _old: Object | None) -> Iterable[Cause]:
    """Find nothing wrong beyond the schema."""
    return ()


@dataclass(frozen=True, slots=True)
class Definition:
    """One kind: its resource, its schema as told and as compiled, and what a schema cannot say of it.

    `normalise` completes an object before it is judged; `judge` compares it with the former one.
    """

    resource: Resource
    schema: Object
    part: Part
    rules: tuple[Rule, ...] = ()
    columns: tuple[Column, ...] = ()
    selectable: tuple[str, ...] = ()
    name_style: NameStyle = "subdomain"
    normalise: Normalise = unchanged
    judge: Judge = content


def define(  # noqa: PLR0913 -- a definition is what it is made of
    resource: Resource,
    schema: Object,
    *,
    columns: tuple[Column, ...] = (),
    selectable: tuple[str, ...] = (),
    name_style: NameStyle = "subdomain",
    normalise: Normalise = unchanged,
    judge: Judge = content,
) -> Definition:
    """Return the definition of a kind whose schema speaks of spec, status and their like; metadata is added."""
    whole = _with_metadata(schema)
    part = compile_schema(whole, "openAPIV3Schema")
    rules, part.rules = part.rules, ()
    part.ruled = any(below.ruled for below in part.properties.values())
    return Definition(
        resource=resource,
        schema=whole,
        part=part,
        rules=rules,
        columns=columns,
        selectable=(*_ALWAYS_SELECTABLE, *selectable),
        name_style=name_style,
        normalise=normalise,
        judge=judge,
    )


def _with_metadata(schema: Object) -> Object:
    said = schema.get("properties", {})
    whole = {
        "apiVersion": {"type": "string"} | said.get("apiVersion", {}),
        "kind": {"type": "string"} | said.get("kind", {}),
        "metadata": object_meta_schema(said.get("metadata")),
    }
    rest = {name: below for name, below in said.items() if name not in whole}
    return {"type": "object"} | schema | {"properties": whole | rest}


class Registry:
    """The kinds that the API offers: built-ins plus every CustomResourceDefinition installed.

    `version` grows with every definition that comes, goes or changes, so that documents made from here know when they are stale.
    """

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self.version = 1
        self._definitions = {_key(one.resource): one for one in definitions}

    def resources(self) -> Sequence[Resource]:
        """Return all resources, built-ins first."""
        return tuple(one.resource for one in self._definitions.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource that a path names, None when there is none."""
        known = self._definitions.get((group, version, plural))
        return known.resource if known else None

    def kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of an object by its apiVersion and kind, None when there is none."""
        for one in self._definitions.values():
            if one.resource.kind == kind and one.resource.api_version == api_version:
                return one.resource
        return None

    def schema(self, res: Resource) -> Object | None:
        """Return the schema of the whole object, None for a resource that is not offered."""
        known = self._definitions.get(_key(res))
        return known.schema if known else None

    def columns(self, res: Resource) -> Sequence[Column]:
        """Return the printer columns after the name; built-ins have printers of their own."""
        return self._definitions[_key(res)].columns

    def selectable_fields(self, res: Resource) -> tuple[str, ...]:
        """Return the fields that a field selector may name, such as `spec.nodeName`."""
        return self._definitions[_key(res)].selectable

    def admit(
        self,
        res: Resource,
        new: Object,
        old: Object | None,
        *,
        validation: str = "Warn",
        subresource: str = "",
    ) -> Admitted:
        """Return the object as it is to be stored: pruned, defaulted and found valid; ApiError says what is wrong.

        Neither `new` nor `old` is changed; what is as it was in `old` is shared with it and not judged again.
        """
        known = self._definitions[_key(res)]
        unknown: list[str] = []
        shaped = shape(known.part, new, MISSING if old is None else old, "", unknown)
        if not subresource:
            shaped = known.normalise(shaped, old)
        warnings = _refuse_unknown(res, sorted(unknown), validation)
        causes = _causes(known, shaped, old)
        if causes:
            raise invalid(res, str(new.get("metadata", {}).get("name", "")), causes)
        return Admitted(shaped, warnings)

    def install(self, crd: Object) -> None:
        """Offer what a CustomResourceDefinition defines, in place of what it defined before; ApiError when it is wrong."""
        made = definitions_of(crd)
        self._drop(crd)
        self._definitions |= {_key(one.resource): one for one in made}
        self.version += 1

    def remove(self, crd: Object) -> None:
        """Offer no longer what a CustomResourceDefinition defined."""
        self._drop(crd)
        self.version += 1

    def _drop(self, crd: Object) -> None:
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        self._definitions = {
            key: one for key, one in self._definitions.items() if (key[0], key[2]) != (group, plural)
        }


def definitions_of(crd: Object) -> tuple[Definition, ...]:
    """Return one definition for each version that a CustomResourceDefinition serves; ApiError names what is wrong."""
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
        where, _, why = str(error).partition(": ")
        cause = Cause(INVALID, why or str(error), f"spec.versions.schema.{where}")
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
        columns=tuple(_column(one) for one in version.get("additionalPrinterColumns", ())) or (AGE,),
        selectable=tuple(one["jsonPath"].removeprefix(".") for one in version.get("selectableFields", ())),
    )


def _column(said: Object) -> Column:
    return Column(
        name=said["name"],
        type=said["type"],
        json_path=said["jsonPath"],
        format=said.get("format", ""),
        priority=said.get("priority", 0),
        description=said.get("description", ""),
    )


def _key(res: Resource) -> tuple[str, str, str]:
    return (res.group, res.version, res.plural)


def _refuse_unknown(res: Resource, unknown: Sequence[str], validation: str) -> tuple[str, ...]:
    said = tuple(f'unknown field "{path}"' for path in unknown)
    if said and validation == "Strict":
        raise StrictDecodingError(res.kind, res.version, f"strict decoding error: {', '.join(said)}")
    return said if validation == "Warn" else ()


def _causes(known: Definition, new: Object, old: Object | None) -> list[Cause]:
    former: Any = MISSING if old is None else old
    causes = check(known.part, new, former)
    metadata, was = new.get("metadata"), (old or {}).get("metadata")
    if not causes and isinstance(metadata, dict) and metadata is not was:
        causes = check_metadata(metadata, was, known.name_style)
    if known.rules and not any(cause.reason in BLOCKING for cause in causes):
        view, before = _view(new), MISSING if old is None else _view(old)
        for rule in known.rules:
            causes.extend(ask_rule(rule, view, before, ""))
    if not causes:
        causes.extend(known.judge(new, old))
    return causes


def _view(obj: Object) -> Object:
    """Return what a rule at the root may look at: of metadata, only the names."""
    metadata = obj.get("metadata", {})
    return obj | {"metadata": {key: metadata[key] for key in ("name", "generateName") if key in metadata}}
