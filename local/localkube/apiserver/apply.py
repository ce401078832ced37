"""Server-side apply and field ownership: conflicts, and the removal of fields that no applier sets any more.

Like apimachinery/pkg/util/managedfields and the merge package of structured-merge-diff. Entries of
`managedFields` are kept as the object carries them, undecoded. An applier is identified by its name and
subresource, an updater by its API version too. Fields are not converted between versions, and results are not
validated here: `registry` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from localkube.apiserver import managed_fields
from localkube.apiserver.errors import ApiError, Cause, bad_request
from localkube.apiserver.managed_fields import Fields
from localkube.apiserver.merge_schema import Shape
from localkube.apiserver.resources import Object
from localkube.apiserver.structured_merge import DuplicateKeyError, compare, merge, owned, prune

ManagedFields = list[Object]
LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"
OWNED_METADATA: Final = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")


@dataclass(frozen=True, slots=True)
class FieldManager:
    """The manager of one write: its name, the request's API version and subresource, the time (RFC 3339)."""

    name: str
    api_version: str
    subresource: str
    time: str

    def entry(self, operation: str, fields: Fields) -> Object:
        """Return the managedFields entry of these fields; `operation` is `Apply` or `Update`."""
        entry: Object = {
            "manager": self.name,
            "operation": operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": fields,
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry

    def owns(self, entry: Object, operation: str) -> bool:
        """Return whether an entry is this manager's entry for the operation."""
        return (
            entry["manager"] == self.name
            and entry["operation"] == operation
            and entry.get("subresource", "") == self.subresource
            and (operation == "Apply" or entry.get("apiVersion") == self.api_version)
        )


def server_side_apply(
    live: Object, config: Object, manager: FieldManager, shape: Shape, *, force: bool
) -> Object | None:
    """Return live with config applied and managedFields updated; None if neither changes.

    `config` must hold only fields that this request may own (`strip_reset_fields`). Raises ApiError 409 if it
    sets fields that other managers own to other values, unless `force` takes them over, and 500 if two items
    of a list have the same keys (the code of a real API server).
    """
    entries = live["metadata"].get("managedFields") or _before_first_apply(live, shape)
    own = next((entry for entry in entries if manager.owns(entry, "Apply")), None)
    others = [entry for entry in entries if entry is not own]
    applied_fields = _applied_fields(live, config, shape)
    previous = own["fieldsV1"] if own else {}
    result = merge(live, config, shape)
    if previous and managed_fields.difference(previous, applied_fields):
        owned_fields = managed_fields.union(
            applied_fields, {"f:metadata": {".": {}}}
        )  # metadata itself is never pruned
        for entry in others:
            owned_fields = managed_fields.union(owned_fields, entry["fieldsV1"])
        result = prune(result, shape, previous, owned_fields)
    delta = compare(live, result, shape)
    remaining = _without_lost_fields(others, delta.changed, delta.removed, force=force)
    if result is live and remaining is others and applied_fields == previous:
        return None
    if applied_fields:
        remaining = [*remaining, manager.entry("Apply", applied_fields)]
    return _with_managed_fields(result, remaining)


def managed_fields_after_update(
    old: Object, new: Object, manager: FieldManager, shape: Shape
) -> ManagedFields:
    """Return the managedFields after a create, update or patch; the manager alone owns the changed fields."""
    entries = _entries_to_update(old, new, manager)
    delta = compare(_tracked_part(old), _tracked_part(new), shape)
    if delta.changed is None and delta.removed is None:
        return entries
    remaining = _without_lost_fields(entries, delta.changed, delta.removed, force=True)
    if delta.changed is None:
        return remaining
    own = next((entry for entry in remaining if manager.owns(entry, "Update")), None)
    fields = managed_fields.union(own["fieldsV1"] if own else {}, delta.changed)
    return _sorted([*(entry for entry in remaining if entry is not own), manager.entry("Update", fields)])


def strip_reset_fields(config: Object, subresource: str, *, has_status: bool) -> Object:
    """Return an applied body without the fields that this endpoint ignores (GetResetFields of a strategy).

    The main endpoint owns neither status nor most of metadata, a subresource only its own field.
    """
    if subresource:
        return {subresource: config[subresource]} if subresource in config else {}
    rest = {
        name: value
        for name, value in config.items()
        if name not in ("apiVersion", "kind", "metadata") and not (has_status and name == "status")
    }
    meta = {name: config["metadata"][name] for name in OWNED_METADATA if name in config["metadata"]}
    return {"metadata": meta, **rest} if meta else rest


def _sorted(entries: Sequence[Object]) -> ManagedFields:
    """Return entries in the order of Kubernetes: appliers first, then by time and manager."""
    return sorted(entries, key=lambda entry: (entry["operation"], entry.get("time", ""), entry["manager"]))


def _before_first_apply(live: Object, shape: Shape) -> ManagedFields:
    """Return the owner of the fields of an object that has no managedFields yet."""
    fields = compare({"metadata": {}}, _tracked_part(live), shape).changed
    if fields is None:
        return []
    entry = FieldManager("before-first-apply", live.get("apiVersion", ""), "", "").entry("Update", fields)
    del entry["time"]
    return [entry]


def _tracked_part(obj: Object) -> Object:
    view = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
    meta = obj.get("metadata", {})
    view["metadata"] = {name: meta[name] for name in OWNED_METADATA if name in meta}
    return view


def _applied_fields(live: Object, config: Object, shape: Shape) -> Fields:
    try:
        fields = owned(config, shape)
    except DuplicateKeyError as error:
        path = "".join(map(managed_fields.readable, error.path))
        problem = f"{path}: duplicate entries for key {managed_fields.readable(error.element)}"
        raise untyped(live, live["metadata"].get("namespace"), problem) from error
    return {name: node for name, node in fields.items() if name != "f:metadata" or node}


def untyped(obj: Object, namespace: str | None, problem: str) -> ApiError:
    """Return the error of a configuration that does not fit its schema."""
    where = "/".join(part for part in (namespace, obj["metadata"]["name"]) if part)
    kind = f"{obj['apiVersion']}, Kind={obj['kind']}"
    return ApiError(500, "", f"failed to create typed patch object ({where}; {kind}): {problem}")


def check_declared(paths: Sequence[str], config: Object, namespace: str | None) -> None:
    """Raise ApiError 500, the code of a real API server, if a configuration has fields that its schema does not declare."""
    problems = [f".{path}: field not declared in schema" for path in paths]
    if problems:
        raise untyped(
            config, namespace, "\n  ".join(["errors:", *problems]) if len(problems) > 1 else problems[0]
        )


def with_last_applied(obj: Object, config: Object, manager: FieldManager) -> Object:
    """Return an object whose annotation of client-side apply, if it has one, is that of this apply by kubectl.

    As managedfields/internal/lastapplied.go: the next client-side apply or diff compares with it.
    """
    annotations = obj["metadata"].get("annotations") or {}
    if manager.name != "kubectl" or manager.subresource or LAST_APPLIED not in annotations:
        return obj
    meta = {name: value for name, value in config["metadata"].items() if name != "managedFields"}
    if own := {
        name: text for name, text in (meta.pop("annotations", None) or {}).items() if name != LAST_APPLIED
    }:
        meta["annotations"] = own
    text = msgspec.json.encode({**config, "metadata": meta}, order="sorted").decode() + "\n"
    if annotations[LAST_APPLIED] == text:
        return obj
    return {**obj, "metadata": {**obj["metadata"], "annotations": {**annotations, LAST_APPLIED: text}}}


def _entries_to_update(old: Object, new: Object, manager: FieldManager) -> ManagedFields:
    """Return the entries that the request itself sets, else the current ones.

    kubectl sets them to migrate from client-side apply; `[{}]` resets them.
    """
    current: ManagedFields = old.get("metadata", {}).get("managedFields", [])
    new_entries = new["metadata"].get("managedFields")
    if manager.subresource or not new_entries or new_entries is current:
        return current
    if new_entries == [{}]:
        return []
    if all(isinstance(entry, dict) and isinstance(entry.get("fieldsV1"), dict) for entry in new_entries):
        return list(new_entries)
    return current


def _without_lost_fields(
    entries: ManagedFields, changed_fields: Fields | None, removed_fields: Fields | None, *, force: bool
) -> ManagedFields:
    """Return other managers' entries without the fields that they lose; the same list if they lose none.

    Raises ApiError 409 if they own changed fields, unless `force`.
    """
    conflicts: dict[int, Fields] = {}  # index of the entry -> its fields in conflict
    for index, entry in enumerate(entries):
        fields = managed_fields.intersection(entry["fieldsV1"], changed_fields) if changed_fields else {}
        if fields:
            conflicts[index] = fields
    if conflicts and not force:
        raise _conflict([(entries[index], fields) for index, fields in conflicts.items()])
    out: ManagedFields = []
    for index, entry in enumerate(entries):
        remaining = managed_fields.difference(
            managed_fields.difference(entry["fieldsV1"], conflicts.get(index, {})), removed_fields or {}
        )
        if remaining is entry["fieldsV1"]:
            out.append(entry)
        elif remaining:
            out.append({**entry, "fieldsV1": remaining})
    return entries if len(out) == len(entries) and all(map(_identical, out, entries)) else out


def _identical(left: Any, right: Any) -> bool:
    return left is right


def _with_managed_fields(obj: Object, entries: ManagedFields) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "managedFields": _sorted(entries)}}


def _conflict(conflicts: Sequence[tuple[Object, Fields]]) -> ApiError:
    causes = [
        Cause("FieldManagerConflict", f"conflict with {_manager_name(entry)}", path)
        for entry, fields in conflicts
        for path in managed_fields.paths(fields)
    ]
    message = _conflict_message(conflicts, causes)
    return ApiError(409, "Conflict", message, {"causes": [cause.json() for cause in causes]})


def _conflict_message(conflicts: Sequence[tuple[Object, Fields]], causes: Sequence[Cause]) -> str:
    if len(causes) == 1:
        return f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    by_manager: Mapping[str, list[str]] = {
        _manager_name(entry): list(managed_fields.paths(fields)) for entry, fields in conflicts
    }
    lines = []
    for manager in sorted(by_manager):
        lines.append(f"conflicts with {manager}:")
        lines.extend(f"- {path}" for path in by_manager[manager])
    return f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)


def _manager_name(entry: Object) -> str:
    name = f'"{entry["manager"]}"'
    if entry.get("subresource"):
        name += f' with subresource "{entry["subresource"]}"'
    return f"{name} using {entry['apiVersion']}" if entry["operation"] == "Update" else name


def validate_apply_body(config: Any, manager: str) -> Object:
    """Return the body of an apply patch. Raises ApiError 400, or 422 without a field manager."""
    if not isinstance(config, dict) or not isinstance(config.get("metadata", {}), dict):
        raise bad_request("error decoding YAML: the body of an apply patch must be an object")
    if not manager:
        cause = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")
        raise ApiError(
            422,
            "Invalid",
            f'PatchOptions.meta.k8s.io "" is invalid: {cause.field}: {cause.message}',
            {"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [cause.json()]},
        )
    if config.get("metadata", {}).get("managedFields"):
        raise bad_request("metadata.managedFields must be nil")
    return config if "metadata" in config else {**config, "metadata": {}}
