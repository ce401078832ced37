"""The registry of served kinds: their resources, schemas and columns, and the validation of their objects.

Built-in kinds come from `builtin_resources`; CustomResourceDefinitions are installed and removed as they are
written, like apiextensions-apiserver/pkg/apiserver/customresource_handler.go. The registry stores no objects.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from localkube.apiserver.definition import Column, Definition, definitions_of
from localkube.apiserver.errors import Cause, StrictDecodingError, invalid
from localkube.apiserver.merge_schema import Shape, compile_shape
from localkube.apiserver.metadata_validation import check_metadata
from localkube.apiserver.pruning_and_defaulting import Walk, shape
from localkube.apiserver.resource_strategy import builtin
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.schema_validation import BLOCKING, check, evaluate_rule
from localkube.apiserver.structural_schema import MISSING


@dataclass(frozen=True, slots=True)
class Admitted:
    """An object as it is to be stored, and the warnings for the client that wrote it."""

    obj: Object
    warnings: tuple[str, ...] = ()


class Registry:
    """The kinds that are served: built-ins plus every installed CustomResourceDefinition.

    `version` increases with every change, so that caches of discovery and OpenAPI documents can tell that
    they are stale.
    """

    def __init__(self, definitions: Iterable[Definition]) -> None:
        self.version = 1
        self._definitions = {_key(definition.resource): definition for definition in definitions}
        self._shapes: dict[Resource, tuple[Object | None, Shape]] = {}

    def resources(self) -> Sequence[Resource]:
        """Return all resources, built-ins first."""
        return tuple(definition.resource for definition in self._definitions.values())

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """Return the resource of a group, version and plural name; None if it is not served."""
        definition = self._definitions.get((group, version, plural))
        return definition.resource if definition else None

    def kind(self, api_version: str, kind: str) -> Resource | None:
        """Return the resource of an apiVersion and kind; None if it is not served."""
        for definition in self._definitions.values():
            if definition.resource.kind == kind and definition.resource.api_version == api_version:
                return definition.resource
        return None

    def schema(self, res: Resource) -> Object | None:
        """Return the schema of the whole object; None if the resource is not served."""
        definition = self._definitions.get(_key(res))
        return definition.schema if definition else None

    def shape(self, res: Resource) -> Shape:
        """Return the merge Shape of a resource by its current schema, compiled once."""
        schema, entry = self.schema(res), self._shapes.get(res)
        if entry is None or entry[0] is not schema:
            entry = self._shapes[res] = (schema, compile_shape(schema, builtin=builtin(res)))
        return entry[1]

    def columns(self, res: Resource) -> Sequence[Column]:
        """Return the printer columns after the name; built-in kinds are printed by `printers` instead."""
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
        applied: bool = False,
    ) -> Admitted:
        """Return the object as it is to be stored: pruned, defaulted and validated.

        Neither `new` nor `old` is changed; unchanged parts are shared with `old` and not validated again (ratcheting).
        `applied`: by server-side apply, of which a null that no default replaces is rejected. Raises ApiError 422 when it is invalid, StrictDecodingError for unknown fields under
        `validation="Strict"`.
        """
        definition = self._definitions[_key(res)]
        walk = Walk(keeps_nulls=applied)
        result = shape(definition.node, new, MISSING if old is None else old, "", walk)
        if not subresource:
            result = definition.normalise(result, old)
        warnings = _unknown_field_warnings(res, sorted(walk.unknown), validation)
        causes = _causes(definition, result, old)
        if causes:
            raise invalid(res, str(new.get("metadata", {}).get("name", "")), causes)
        return Admitted(result, warnings)

    def undeclared(self, res: Resource, config: Object) -> list[str]:
        """Return the paths of an applied configuration that its schema does not have, sorted."""
        walk = Walk(keeps_nulls=True)
        shape(self._definitions[_key(res)].node, config, MISSING, "", walk)
        return sorted(walk.unknown)

    def install(self, crd: Object) -> None:
        """Serve the versions of a CustomResourceDefinition instead of its previous ones.

        Raises ApiError 422.
        """
        definitions = definitions_of(crd)
        self._drop(crd)
        self._definitions |= {_key(definition.resource): definition for definition in definitions}
        self.version += 1

    def remove(self, crd: Object) -> None:
        """Stop serving the versions of a CustomResourceDefinition."""
        self._drop(crd)
        self.version += 1

    def _drop(self, crd: Object) -> None:
        group, plural = crd["spec"]["group"], crd["spec"]["names"]["plural"]
        self._definitions = {
            key: definition
            for key, definition in self._definitions.items()
            if (key[0], key[2]) != (group, plural)
        }
        self._shapes = {res: entry for res, entry in self._shapes.items() if _key(res) in self._definitions}


def _key(res: Resource) -> tuple[str, str, str]:
    return (res.group, res.version, res.plural)


def _unknown_field_warnings(res: Resource, unknown: Sequence[str], validation: str) -> tuple[str, ...]:
    warnings = tuple(f'unknown field "{path}"' for path in unknown)
    if warnings and validation == "Strict":
        raise StrictDecodingError(res.kind, res.version, f"strict decoding error: {', '.join(warnings)}")
    return warnings if validation == "Warn" else ()


def _causes(definition: Definition, new: Object, old: Object | None) -> list[Cause]:
    previous: Any = MISSING if old is None else old
    causes = check(definition.node, new, previous)
    metadata, old_metadata = new.get("metadata"), (old or {}).get("metadata")
    if not causes and isinstance(metadata, dict) and metadata is not old_metadata:
        causes = check_metadata(metadata, old_metadata, definition.name_style)
    if definition.rules and not any(cause.reason in BLOCKING for cause in causes):
        view, old_view = _view(new), MISSING if old is None else _view(old)
        for rule in definition.rules:
            causes.extend(evaluate_rule(rule, view, old_view, ""))
    if not causes:
        causes.extend(definition.validate(new, old))
    return causes


def _view(obj: Object) -> Object:
    """Return what a CEL rule at the root can access: of metadata, only name and generateName."""
    metadata = obj.get("metadata", {})
    return obj | {"metadata": {key: metadata[key] for key in ("name", "generateName") if key in metadata}}
