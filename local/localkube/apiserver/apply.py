"""Server-side apply and the ownership of fields: who wrote what, what a conflict is, and what goes when its owner drops it.

An entry of `managedFields` is kept as the object carries it. Appliers are known by name and subresource; those who update are
known by their API version as well. Whether a result is valid is for the catalogue to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from localkube.apiserver import managed_fields
from localkube.apiserver.errors import ApiError, Cause, bad_request
from localkube.apiserver.managed_fields import Fields
from localkube.apiserver.merge_schema import Shape
from localkube.apiserver.resources import Object
from localkube.apiserver.structured_merge import DuplicateKeyError, compare, merge, owned, prune

Entries = list[Object]
OWNED_METADATA: Final = ("labels", "annotations", "finalizers", "ownerReferences", "generateName")


@dataclass(frozen=True, slots=True)
class Writer:
    """In whose name, through which version and subresource, and when something is written."""

    manager: str
    api_version: str
    subresource: str
    time: str

    def entry(self, operation: str, claimed: Fields) -> Object:
        """Return the entry of managedFields for these fields."""
        entry: Object = {
            "manager": self.manager,
            "operation": operation,
            "apiVersion": self.api_version,
            "time": self.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": claimed,
        }
        if self.subresource:
            entry["subresource"] = self.subresource
        return entry

    def wrote(self, entry: Object, operation: str) -> bool:
        """Say whether an entry is this writer's own."""
        return (
            entry["manager"] == self.manager
            and entry["operation"] == operation
            and entry.get("subresource", "") == self.subresource
            and (operation == "Apply" or entry.get("apiVersion") == self.api_version)
        )


def applied(live: Object, config: Object, writer: Writer, shape: Shape, *, force: bool) -> Object | None:
    """Return live with config applied and managedFields brought up to date; None when nothing at all changes.

    `config` must be reduced to what this writer may own here (`claimable`). ApiError 409 when others own, with other values,
    what it sets, unless `force` takes it over.
    """
    entries = live["metadata"].get("managedFields") or _before_first(live, shape)
    mine = next((entry for entry in entries if writer.wrote(entry, "Apply")), None)
    others = [entry for entry in entries if entry is not mine]
    claimed = _claimed(live, config, shape)
    former = mine["fieldsV1"] if mine else {}
    merged = merge(live, config, shape)
    if former and managed_fields.difference(former, claimed):
        managed = managed_fields.union(claimed, {"f:metadata": {".": {}}})  # never pruned itself
        for entry in others:
            managed = managed_fields.union(managed, entry["fieldsV1"])
        merged = prune(merged, shape, former, managed)
    delta = compare(live, merged, shape)
    left = _yielded(others, delta.changed, delta.removed, force=force)
    if merged is live and left is others and claimed == former:
        return None
    if claimed:
        left = [*left, writer.entry("Apply", claimed)]
    return _with_entries(merged, left)


def updated(old: Object, new: Object, writer: Writer, shape: Shape) -> Entries:
    """Return the managedFields of new after an update from old: what changed belongs to the writer, and to nobody else."""
    entries = _given_or_kept(old, new, writer)
    delta = compare(_claimable_view(old), _claimable_view(new), shape)
    if delta.changed is None and delta.removed is None:
        return entries
    left = _yielded(entries, delta.changed, delta.removed, force=True)
    if delta.changed is None:
        return left
    mine = next((entry for entry in left if writer.wrote(entry, "Update")), None)
    former = mine["fieldsV1"] if mine else {}
    claimed = managed_fields.union(former, delta.changed)
    return in_order([*(entry for entry in left if entry is not mine), writer.entry("Update", claimed)])


def claimable(config: Object, subresource: str, *, has_status: bool) -> Object:
    """Return the part of an applied body that may be owned through this path."""
    if subresource:
        return {subresource: config[subresource]} if subresource in config else {}
    rest = {
        name: value
        for name, value in config.items()
        if name not in ("apiVersion", "kind", "metadata") and not (has_status and name == "status")
    }
    meta = {name: config["metadata"][name] for name in OWNED_METADATA if name in config["metadata"]}
    return {"metadata": meta, **rest} if meta else rest


def in_order(entries: Sequence[Object]) -> Entries:
    """Return entries as Kubernetes sorts them: appliers first, then by time and name."""
    return sorted(entries, key=lambda entry: (entry["operation"], entry.get("time", ""), entry["manager"]))


def _before_first(live: Object, shape: Shape) -> Entries:
    """Hold what was there before anybody was tracked."""
    content = compare({"metadata": {}}, _claimable_view(live), shape).changed
    if content is None:
        return []
    entry = Writer("before-first-apply", live.get("apiVersion", ""), "", "").entry("Update", content)
    del entry["time"]
    return [entry]


def _claimable_view(obj: Object) -> Object:
    view = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind")}
    meta = obj.get("metadata", {})
    view["metadata"] = {name: meta[name] for name in OWNED_METADATA if name in meta}
    return view


def _claimed(live: Object, config: Object, shape: Shape) -> Fields:
    try:
        claimed = owned(config, shape)
    except DuplicateKeyError as error:
        meta = live["metadata"]
        where = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
        path = "".join(map(managed_fields.readable, error.path))
        words = f"{path}: duplicate entries for key {managed_fields.readable(error.element)}"
        kind = f"{live['apiVersion']}, Kind={live['kind']}"
        raise ApiError(500, "", f"failed to create typed patch object ({where}; {kind}): {words}") from error
    return {name: node for name, node in claimed.items() if name != "f:metadata" or node}


def _given_or_kept(old: Object, new: Object, writer: Writer) -> Entries:
    """Take managedFields that the writer sets himself (kubectl moves client-side owners so), else those known."""
    known: Entries = old.get("metadata", {}).get("managedFields", [])
    given = new["metadata"].get("managedFields")
    if writer.subresource or not given or given is known:
        return known
    if given == [{}]:
        return []
    if all(isinstance(entry, dict) and isinstance(entry.get("fieldsV1"), dict) for entry in given):
        return list(given)
    return known


def _yielded(entries: Entries, changed: Fields | None, removed: Fields | None, *, force: bool) -> Entries:
    """Return others' entries without what they lose; the same list when they lose nothing."""
    lost: dict[int, Fields] = {}  # place of the entry -> what is in dispute
    for place, entry in enumerate(entries):
        dispute = managed_fields.intersection(entry["fieldsV1"], changed) if changed else {}
        if dispute:
            lost[place] = dispute
    if lost and not force:
        raise _conflict([(entries[place], dispute) for place, dispute in lost.items()])
    gone = managed_fields.union(removed or {}, {})
    out: Entries = []
    for place, entry in enumerate(entries):
        left = managed_fields.difference(
            managed_fields.difference(entry["fieldsV1"], lost.get(place, {})), gone
        )
        if left is entry["fieldsV1"]:
            out.append(entry)
        elif left:
            out.append({**entry, "fieldsV1": left})
    return entries if len(out) == len(entries) and all(map(_identical, out, entries)) else out


def _identical(left: Any, right: Any) -> bool:
    return left is right


def _with_entries(obj: Object, entries: Entries) -> Object:
    return {**obj, "metadata": {**obj["metadata"], "managedFields": in_order(entries)}}


def _conflict(disputes: Sequence[tuple[Object, Fields]]) -> ApiError:
    causes = [
        Cause("FieldManagerConflict", f"conflict with {_named(entry)}", path)
        for entry, dispute in disputes
        for path in managed_fields.paths(dispute)
    ]
    message = _conflict_words(disputes, causes)
    return ApiError(409, "Conflict", message, {"causes": [cause.json() for cause in causes]})


def _conflict_words(disputes: Sequence[tuple[Object, Fields]], causes: Sequence[Cause]) -> str:
    if len(causes) == 1:
        return f"Apply failed with 1 conflict: {causes[0].message}: {causes[0].field}"
    by_manager: Mapping[str, list[str]] = {
        _named(entry): list(managed_fields.paths(dispute)) for entry, dispute in disputes
    }
    lines = []
    for manager in sorted(by_manager):
        lines.append(f"conflicts with {manager}:")
        lines.extend(f"- {path}" for path in by_manager[manager])
    return f"Apply failed with {len(causes)} conflicts: " + "\n".join(lines)


def _named(entry: Object) -> str:
    name = f'"{entry["manager"]}"'
    if entry.get("subresource"):
        name += f' with subresource "{entry["subresource"]}"'
    return f"{name} using {entry['apiVersion']}" if entry["operation"] == "Update" else name


def check_applied(config: Any, manager: str) -> Object:
    """Return the body of an apply; ApiError when it cannot be one."""
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
