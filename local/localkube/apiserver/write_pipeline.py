"""The write path of an object, from the body of a request to the object to be stored.

Pure functions of the live object. Like apiserver/pkg/registry/rest/{create,update}.go and
endpoints/handlers/fieldmanager: system metadata, strategy, pruning, defaulting and validation (by
`registry`), managedFields, generation. A draft whose object is the live one itself is a no-op write. Storing,
resourceVersions and watches are in `store` and `versioned_storage`.
"""

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from localkube.apiserver.apply import (
    FieldManager,
    check_declared,
    managed_fields_after_update,
    server_side_apply,
    strip_reset_fields,
    validate_apply_body,
    with_last_applied,
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
from localkube.apiserver.object_metadata import (
    SystemFields,
    check_finalizers,
    check_identity,
    metadata_for_update,
    prepare_for_create,
    type_meta,
)
from localkube.apiserver.patch import json_patch, merge_patch, strategic_merge
from localkube.apiserver.pod_strategy import bind
from localkube.apiserver.registry import Registry
from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resource_strategy import builtin, strategy
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.structured_merge import same

_UNTRACKED: Final = {"binding", "finalize"}  # subresources that record no managedFields
_UNSUPPORTED_PATCH: Final = (
    "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, "
    "application/merge-patch+json, application/apply-patch+yaml"
)
# struct fields that Go always serializes, so no manager owns them by creating the object
_IMPLIED_SPEC: Final[Object] = {"template": {"metadata": {}, "spec": {}}}


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """The parameters of a write that are the same for all verbs; `time` is RFC 3339."""

    res: Resource
    subresource: str
    options: Options
    time: str

    @property
    def writer(self) -> FieldManager:
        """Return the managedFields entry's manager, version, subresource and time."""
        manager = self.options.manager or "unknown"
        return FieldManager(manager, self.res.api_version, self.subresource, self.time)

    @property
    def has_status(self) -> bool:
        """Return whether status is written only through the status subresource."""
        return "status" in self.res.subresources


@dataclass(frozen=True, slots=True)
class Draft:
    """An object as it would be stored, and the warnings for the client."""

    obj: Object
    warnings: tuple[str, ...] = ()


class WritePipeline:
    """Computes drafts."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def created(self, request: WriteRequest, namespace: str | None, obj: Object, uid: str) -> Draft:
        """Return a new object; its manager owns the fields it sent and the defaults.

        Raises ApiError as `prepare_for_create` and `Registry.admit`.
        """
        obj = _prepare(request, namespace, obj, uid)
        draft = self._admitted(request, obj, None)
        origin: Object = {"metadata": {"managedFields": []}}
        if builtin(request.res):
            origin |= {"spec": _implied_spec(draft.obj.get("spec")), "status": {}}
        if request.has_status and not strategy(request.res).creates_status and "status" in draft.obj:
            origin["status"] = draft.obj["status"]
        entries = managed_fields_after_update(
            origin, draft.obj, request.writer, self._registry.shape(request.res)
        )
        meta = {**draft.obj["metadata"], "managedFields": entries}
        new = strategy(request.res).admit({**draft.obj, "metadata": meta})
        return Draft(new, draft.warnings)

    def created_by_apply(
        self, request: WriteRequest, namespace: str | None, config: Object, uid: str
    ) -> Draft:
        """Return a new object of an apply; its manager owns the fields it sent, no manager the defaults."""
        self._check_declared(request, config, namespace)
        origin = _prepare(
            request, namespace, {**config, "metadata": {"name": config["metadata"]["name"]}}, uid
        )
        bare = {"apiVersion": origin["apiVersion"], "kind": origin["kind"], "metadata": origin["metadata"]}
        part = strip_reset_fields(config, "", has_status=request.has_status)
        full_object = {**part, "metadata": {**origin["metadata"], **part.get("metadata", {})}}
        new = (
            server_side_apply(bare, part, request.writer, self._registry.shape(request.res), force=True)
            or bare
        )
        new_object = _prepare(
            request, namespace, {**full_object, "apiVersion": bare["apiVersion"], "kind": bare["kind"]}, uid
        )
        entries = new["metadata"].get("managedFields", [])
        owned_object = {**new_object, "metadata": {**new_object["metadata"], "managedFields": entries}}
        draft = self._admitted(request, owned_object, None, applied=True)
        return Draft(strategy(request.res).admit(draft.obj), draft.warnings)

    def changed(self, request: WriteRequest, live: Object, desired: Any, *, patched: bool = True) -> Draft:
        """Return the update of a live object to `desired`, within what the resource or subresource covers.

        Raises ApiError as `check_identity` and `Registry.admit`.
        """
        if not isinstance(desired, dict) or not isinstance(desired.get("metadata", {}), dict):
            raise bad_request("the object provided is unrecognized: it and its metadata must be objects")
        check_uid = request.subresource not in ("status", "finalize")
        check_identity(request.res, live, desired, check_uid=check_uid, patched=patched)
        draft = self._admitted(request, _for_subresource(request, live, desired), live)
        new = draft.obj
        entries: list[Object] = live["metadata"].get("managedFields", [])
        if request.subresource not in _UNTRACKED:
            entries = managed_fields_after_update(
                live, new, request.writer, self._registry.shape(request.res)
            )
        new = _with_system_changes(request, live, new, entries)
        return Draft(live if same(new, live) else new, draft.warnings)

    def replaced(self, request: WriteRequest, live: Object, desired: Object) -> Draft:
        """Return the result of a PUT.

        Raises ApiError 422 when a required resourceVersion is missing, else as `changed`.
        """
        version = (desired.get("metadata") or {}).get("resourceVersion")
        if not version and request.subresource != "binding" and not strategy(request.res).unconditional:
            raise resource_version_required(request.res, live["metadata"]["name"])
        if request.subresource != "binding":
            type_meta(request.res, desired)
        return self.changed(request, live, desired, patched=False)

    def patched(self, request: WriteRequest, live: Object, patch: Patch) -> Draft:
        """Return the result of a JSON, merge or strategic merge patch.

        Raises ApiError 415 for a strategic merge patch of a custom resource, 400 or 422 for an invalid patch.
        """
        if patch.kind == "json":
            return self._changed_by_patch(request, live, json_patch(live, patch.body))
        if not isinstance(patch.body, dict):
            raise bad_request("error decoding patch: a merge patch is an object")
        if patch.kind == "merge":
            return self._changed_by_patch(request, live, merge_patch(live, patch.body))
        if not builtin(request.res):
            raise unsupported_media_type(_UNSUPPORTED_PATCH)
        return self.changed(request, live, strategic_merge(live, patch.body))

    def _changed_by_patch(self, request: WriteRequest, live: Object, desired: Any) -> Draft:
        """Return the result of a patch.

        A strict decoding error is reported as one of the patch, as in a real API server.
        """
        try:
            return self.changed(request, live, desired)
        except StrictDecodingError as error:
            text = msgspec.json.encode(desired, order="sorted").decode()
            raise invalid_patch(text, error.problem) from error

    def applied(self, request: WriteRequest, live: Object, config: Object) -> Draft:
        """Return the result of a server-side apply; raises ApiError 409 for conflicts with other managers."""
        self._check_declared(request, config, live["metadata"].get("namespace"))
        check_identity(request.res, live, config, check_uid=not request.subresource, patched=True)
        part = strip_reset_fields(config, request.subresource, has_status=request.has_status)
        new = server_side_apply(
            live, part, request.writer, self._registry.shape(request.res), force=request.options.force
        )
        new = with_last_applied(live if new is None else new, config, request.writer)
        if new is live:
            return Draft(live)
        draft = self._admitted(request, new, live, applied=True)
        return Draft(
            _with_system_changes(request, live, draft.obj, draft.obj["metadata"]["managedFields"]),
            draft.warnings,
        )

    def _check_declared(self, request: WriteRequest, config: Object, namespace: str | None) -> None:
        if not builtin(request.res):
            check_declared(self._registry.undeclared(request.res, config), config, namespace)

    def _admitted(
        self, request: WriteRequest, new: Object, live: Object | None, *, applied: bool = False
    ) -> Draft:
        admission = self._registry.admit(
            request.res,
            new,
            live,
            validation=request.options.validation,
            subresource=request.subresource,
            applied=applied and not builtin(request.res),
        )
        if live is not None:
            check_finalizers(request.res, admission.obj, live)
            causes = strategy(request.res).check_update(admission.obj, live)
            if causes:
                raise invalid(request.res, live["metadata"]["name"], causes)
        return Draft(admission.obj, admission.warnings)


def check_config(request: WriteRequest, name: str, body: Any) -> Object:
    """Return the configuration of an apply with its name set.

    Raises ApiError 400 when it contradicts the path.
    """
    config = validate_apply_body(body, request.options.manager)
    type_meta(request.res, config)
    if (config["metadata"].get("name") or name) != name:
        raise bad_request(
            f"the name of the object ({config['metadata']['name']}) does not match the name on the URL ({name})"
        )
    return {**config, "metadata": {**config["metadata"], "name": name}}


def _prepare(request: WriteRequest, namespace: str | None, obj: Object, uid: str) -> Object:
    rules = strategy(request.res)
    obj = prepare_for_create(
        request.res, namespace, obj, SystemFields(uid, request.time, 1 if rules.generations else None)
    )
    if request.has_status and not rules.creates_status:
        obj = {name: value for name, value in obj.items() if name != "status"}
    return rules.prepare(obj, request.time)


def _implied_spec(spec: Any) -> Object:
    return _IMPLIED_SPEC if isinstance(spec, dict) and "template" in spec else {}


def _for_subresource(request: WriteRequest, live: Object, desired: Object) -> Object:
    """Return live with the fields that the resource or subresource may change taken from desired."""
    if request.subresource == "binding":
        if not isinstance((desired.get("target") or {}).get("name"), str):
            raise bad_request("target.name: Required value: a binding names a node")
        return bind(live, desired, request.time)
    if request.subresource == "finalize":
        finalizers = (desired.get("spec") or {}).get("finalizers") or []
        return {**live, "spec": {**(live.get("spec") or {}), "finalizers": finalizers}}
    if request.subresource == "status":
        rest = {name: value for name, value in live.items() if name != "status"}
        return {**rest, "status": desired["status"]} if "status" in desired else rest
    if request.subresource:
        raise no_such_resource()
    kept_fields = {"status"} if request.has_status else set()
    new = {**type_meta(request.res, desired), "metadata": metadata_for_update(live, desired)}
    new |= {name: value for name, value in desired.items() if name not in new and name not in kept_fields}
    return new | {name: live[name] for name in kept_fields if name in live}


def _with_system_changes(request: WriteRequest, live: Object, new: Object, entries: list[Object]) -> Object:
    """Return new with its managedFields, and the next generation if its spec (or data) changed."""
    meta, current = new["metadata"], live["metadata"]
    more: Object = {}
    if entries is not meta.get("managedFields") and (entries or "managedFields" in meta):
        more["managedFields"] = entries
    if not request.subresource and "generation" in current and _spec_changed(request, live, new):
        more["generation"] = current["generation"] + 1
    return {**new, "metadata": {**meta, **more}} if more else new


def _spec_changed(request: WriteRequest, live: Object, new: Object) -> bool:
    ignored_fields = {"metadata", "apiVersion", "kind"} | ({"status"} if request.has_status else set())
    names = (live.keys() | new.keys()) - ignored_fields
    return any(not same(live.get(name), new.get(name)) for name in names)
