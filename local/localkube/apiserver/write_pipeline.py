"""What an object becomes by a write: pure in the store's objects, with everything that Kubernetes does on the way in.

A draft whose object is the live one itself is a write that changes nothing. Keeping objects, versions and watchers is the
store's; which fields there are and what they may hold is the registry's.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from localkube.apiserver.apply import (
    FieldManager,
    managed_fields_after_update,
    server_side_apply,
    strip_reset_fields,
    validate_apply_body,
)
from localkube.apiserver.errors import (
    StrictDecodingError,
    bad_request,
    invalid,
    invalid_patch,
    no_such_resource,
    resource_version_required,
    unsupported_media_type,
)
from localkube.apiserver.merge_schema import Shape, compile_shape
from localkube.apiserver.object_metadata import Birth, born, check_address, check_finalizers, rewritten, typed
from localkube.apiserver.patch import json_patch, merge_patch, strategic_merge
from localkube.apiserver.pod_strategy import bound
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resource_strategy import builtin, strategy
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.structured_merge import same

_UNTRACKED: Final = {"binding", "finalize"}  # no owner of fields comes from these
_MEDIA: Final = (
    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "
    "application/merge-patch+json, application/apply-patch+yaml"
)
_HELD: Final[Object] = {
    "template": {"metadata": {}, "spec": {}}
}  # structs that are there without being written


@dataclass(frozen=True, slots=True)
class Request:
    """Where a write goes, how, and when."""

    res: Resource
    subresource: str
    options: Options
    time: str

    @property
    def writer(self) -> FieldManager:
        """Return in whose name fields become owned."""
        manager = self.options.manager or "unknown"
        return FieldManager(manager, self.res.api_version, self.subresource, self.time)

    @property
    def has_status(self) -> bool:
        """Say whether status is written through its own path alone."""
        return "status" in self.res.subresources


@dataclass(frozen=True, slots=True)
class Draft:
    """An object as it would be stored, and what its writer should be told."""

    obj: Object
    warnings: tuple[str, ...] = ()


class Composer:
    """Work out drafts; keeps how each resource merges, compiled once a schema."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._shapes: dict[Resource, tuple[Object | None, Shape]] = {}

    def shape(self, res: Resource) -> Shape:
        """Return how the parts of a resource's objects merge."""
        schema = self._registry.schema(res)
        known = self._shapes.get(res)
        if known is None or known[0] is not schema:
            known = self._shapes[res] = (schema, compile_shape(schema, builtin=builtin(res)))
        return known[1]

    def created(self, on: Request, namespace: str | None, obj: Object, uid: str) -> Draft:
        """Return a new object; the creator owns what it says and what is filled in by default."""
        obj = _born(on, namespace, obj, uid)
        draft = self._admitted(on, obj, None)
        origin: Object = {"metadata": {"managedFields": []}}
        if builtin(on.res):
            origin |= {"spec": _held_of(draft.obj.get("spec")), "status": {}}
        if on.has_status and not strategy(on.res).creates_status and "status" in draft.obj:
            origin["status"] = draft.obj["status"]
        entries = managed_fields_after_update(origin, draft.obj, on.writer, self.shape(on.res))
        meta = {**draft.obj["metadata"], "managedFields": entries}
        new = strategy(on.res).admitted({**draft.obj, "metadata": meta})
        return Draft(new, draft.warnings)

    def created_by_apply(self, on: Request, namespace: str | None, config: Object, uid: str) -> Draft:
        """Return a new object; the applier owns what it says, nobody what is filled in."""
        origin = _born(on, namespace, {**config, "metadata": {"name": config["metadata"]["name"]}}, uid)
        bare = {"apiVersion": origin["apiVersion"], "kind": origin["kind"], "metadata": origin["metadata"]}
        part = strip_reset_fields(config, "", has_status=on.has_status)
        named = {**part, "metadata": {**origin["metadata"], **part.get("metadata", {})}}
        new = server_side_apply(bare, part, on.writer, self.shape(on.res), force=True) or bare
        begun = _born(on, namespace, {**named, "apiVersion": bare["apiVersion"], "kind": bare["kind"]}, uid)
        entries = new["metadata"].get("managedFields", [])
        draft = self._admitted(
            on, {**begun, "metadata": {**begun["metadata"], "managedFields": entries}}, None
        )
        return Draft(strategy(on.res).admitted(draft.obj), draft.warnings)

    def changed(self, on: Request, live: Object, wanted: Any, *, patched: bool = True) -> Draft:
        """Return what a live object becomes when it is to look like `wanted`, as far as this path may change it."""
        if not isinstance(wanted, dict) or not isinstance(wanted.get("metadata", {}), dict):
            raise bad_request("the object provided is unrecognized: it and its metadata must be objects")
        uid_matters = on.subresource not in ("status", "finalize")
        check_address(on.res, live, wanted, uid_matters=uid_matters, patched=patched)
        draft = self._admitted(on, _within(on, live, wanted), live)
        new = draft.obj
        entries: list[Object] = live["metadata"].get("managedFields", [])
        if on.subresource not in _UNTRACKED:
            entries = managed_fields_after_update(live, new, on.writer, self.shape(on.res))
        new = _stamped(on, live, new, entries)
        return Draft(live if same(new, live) else new, draft.warnings)

    def replaced(self, on: Request, live: Object, wanted: Object) -> Draft:
        """Return what a PUT makes of a live object; ApiError when it must name a version and does not."""
        version = (wanted.get("metadata") or {}).get("resourceVersion")
        if not version and on.subresource != "binding" and not strategy(on.res).unconditional:
            raise resource_version_required(on.res, live["metadata"]["name"])
        if on.subresource != "binding":
            typed(on.res, wanted)
        return self.changed(on, live, wanted, patched=False)

    def patched(self, on: Request, live: Object, patch: Patch) -> Draft:
        """Return what one of the three plain patch languages makes of a live object."""
        if patch.kind == "json":
            return self._changed_by(on, live, json_patch(live, patch.body))
        if not isinstance(patch.body, dict):
            raise bad_request("error decoding patch: a merge patch is an object")
        if patch.kind == "merge":
            return self._changed_by(on, live, merge_patch(live, patch.body))
        if not builtin(on.res):
            raise unsupported_media_type(_MEDIA)
        return self.changed(on, live, strategic_merge(live, patch.body))

    def _changed_by(self, on: Request, live: Object, wanted: Any) -> Draft:
        """Return what a patch makes of an object; what strictness finds in it is the patch's fault, as a real server has it."""
        try:
            return self.changed(on, live, wanted)
        except StrictDecodingError as error:
            text = msgspec.json.encode(wanted, order="sorted").decode()
            raise invalid_patch(text, error.problem) from error

    def applied(self, on: Request, live: Object, config: Object) -> Draft:
        """Return what a server-side apply makes of a live object."""
        check_address(on.res, live, config, uid_matters=not on.subresource, patched=True)
        part = strip_reset_fields(config, on.subresource, has_status=on.has_status)
        new = server_side_apply(live, part, on.writer, self.shape(on.res), force=on.options.force)
        if new is None:
            return Draft(live)
        draft = self._admitted(on, new, live)
        return Draft(_stamped(on, live, draft.obj, draft.obj["metadata"]["managedFields"]), draft.warnings)

    def _admitted(self, on: Request, new: Object, live: Object | None) -> Draft:
        admitted = self._registry.admit(
            on.res, new, live, validation=on.options.validation, subresource=on.subresource
        )
        if live is not None:
            check_finalizers(on.res, admitted.obj, live)
            causes = strategy(on.res).frozen(admitted.obj, live)
            if causes:
                raise invalid(on.res, live["metadata"]["name"], causes)
        return Draft(admitted.obj, admitted.warnings)


def check_config(on: Request, name: str, body: Any) -> Object:
    """Return the body of an apply, with the name that its path says; ApiError when they do not go together."""
    config = validate_apply_body(body, on.options.manager)
    typed(on.res, config)
    if (config["metadata"].get("name") or name) != name:
        raise bad_request(
            f"the name of the object ({config['metadata']['name']}) does not match the name on the URL ({name})"
        )
    return {**config, "metadata": {**config["metadata"], "name": name}}


def _born(on: Request, namespace: str | None, obj: Object, uid: str) -> Object:
    rules = strategy(on.res)
    obj = born(on.res, namespace, obj, Birth(uid, on.time, 1 if rules.generations else None))
    if on.has_status and not rules.creates_status:
        obj = {name: value for name, value in obj.items() if name != "status"}
    return rules.begin(obj, on.time)


def _held_of(spec: Any) -> Object:
    return _HELD if isinstance(spec, dict) and "template" in spec else {}


def _within(on: Request, live: Object, wanted: Object) -> Object:
    """Return live with what this path may change taken from wanted."""
    if on.subresource == "binding":
        if not isinstance((wanted.get("target") or {}).get("name"), str):
            raise bad_request("target.name: Required value: a binding names a node")
        return bound(live, wanted, on.time)
    if on.subresource == "finalize":
        finalizers = (wanted.get("spec") or {}).get("finalizers") or []
        return {**live, "spec": {**(live.get("spec") or {}), "finalizers": finalizers}}
    if on.subresource == "status":
        rest = {name: value for name, value in live.items() if name != "status"}
        return {**rest, "status": wanted["status"]} if "status" in wanted else rest
    if on.subresource:
        raise no_such_resource()
    kept = {"status"} if on.has_status else set()
    new = {**typed(on.res, wanted), "metadata": rewritten(live, wanted)}
    new |= {name: value for name, value in wanted.items() if name not in new and name not in kept}
    return new | {name: live[name] for name in kept if name in live}


def _stamped(on: Request, live: Object, new: Object, entries: list[Object]) -> Object:
    """Return new with its owners, and the next generation when what is desired changed."""
    meta, known = new["metadata"], live["metadata"]
    more: Object = {}
    if entries is not meta.get("managedFields") and (entries or "managedFields" in meta):
        more["managedFields"] = entries
    if not on.subresource and "generation" in known and _desire_changed(on, live, new):
        more["generation"] = known["generation"] + 1
    return {**new, "metadata": {**meta, **more}} if more else new


def _desire_changed(on: Request, live: Object, new: Object) -> bool:
    aside = {"metadata", "apiVersion", "kind"} | ({"status"} if on.has_status else set())
    names = (live.keys() | new.keys()) - aside
    return any(not same(live.get(name), new.get(name)) for name in names)
