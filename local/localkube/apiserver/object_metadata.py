"""System metadata: the fields of ObjectMeta that the API server sets, and checks of what clients send there.

Like apiserver/pkg/registry/rest/{create,update,meta}.go. It does not validate the syntax of names, labels and
annotations; `metadata_validation` does.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from localkube.apiserver.errors import ApiError, Cause, bad_request, conflict, invalid
from localkube.apiserver.resources import Object, Resource

SYSTEM_FIELDS: Final = (  # keep their values, whatever a client sends
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "resourceVersion",
)
_OTHER_NAMESPACE: Final = (
    "the namespace of the provided object does not match the namespace sent on the request"
)
_LONGEST_GENERATED: Final = 63
_SUFFIX_LETTERS: Final = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH: Final = 5


@dataclass(frozen=True, slots=True)
class SystemFields:
    """What the API server sets in the metadata of a new object; `time` is RFC 3339."""

    uid: str
    time: str
    generation: int | None  # None: the resource has no generations


def rfc3339(time: datetime) -> str:
    """Return a time as metav1.Time serializes it: RFC 3339, UTC, whole seconds."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str, uid: str) -> str:
    """Return prefix plus a suffix of five letters derived from the uid, like names.SimpleNameGenerator.

    At most 63 characters.
    """
    number = (
        int.from_bytes(uid.encode(), "big") % 2_147_483_647
    )  # a prime, so every character of the uid counts
    letters = []
    for _ in range(_SUFFIX_LENGTH):
        number, place = divmod(number, len(_SUFFIX_LETTERS))
        letters.append(_SUFFIX_LETTERS[place])
    return prefix[: _LONGEST_GENERATED - _SUFFIX_LENGTH] + "".join(letters)


def prepare_for_create(res: Resource, namespace: str | None, obj: Object, system: SystemFields) -> Object:
    """Return a new object with its system metadata, whatever the client sent there.

    Raises ApiError: 500 for a resourceVersion, 400 for another namespace, apiVersion or kind, 422 without a
    name.
    """
    client_meta = obj.get("metadata") or {}
    if client_meta.get("resourceVersion"):
        # a real API server returns a plain Go error here, which clients see as a 500
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
    meta = {"name": _name(res, client_meta, system.uid)}
    if res.namespaced:
        if (client_meta.get("namespace") or namespace) != namespace:
            raise bad_request(_OTHER_NAMESPACE)
        meta["namespace"] = namespace or ""
    meta |= {"uid": system.uid, "creationTimestamp": system.time}
    client_fields = {
        key: value for key, value in client_meta.items() if key not in SYSTEM_FIELDS and value is not None
    }
    generation = {} if system.generation is None else {"generation": system.generation}
    rest = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    return {**type_meta(res, obj), "metadata": {**meta, **generation, **client_fields}, **rest}


def _name(res: Resource, client_meta: Object, uid: str) -> str:
    name: str = client_meta.get("name") or ""
    if not name and client_meta.get("generateName"):
        name = generated_name(client_meta["generateName"], uid)
    if not name:
        words = "Required value: name or generateName is required"
        raise invalid(res, "", [Cause("FieldValueRequired", words, "metadata.name")])
    return name


def type_meta(res: Resource, obj: Object) -> Object:
    """Return the apiVersion and kind of a body, the resource's own by default.

    Raises ApiError 400 for any other.
    """
    version, kind = obj.get("apiVersion") or res.api_version, obj.get("kind") or res.kind
    if version != res.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({res.api_version})"
        )
    if kind != res.kind:
        raise bad_request(f"the kind in the data ({kind}) does not match the expected kind ({res.kind})")
    return {"apiVersion": version, "kind": kind}


def check_identity(
    res: Resource, live: Object, new: Object, *, check_uid: bool, patched: bool = False
) -> None:
    """Raise ApiError when a body has another name, namespace, uid or resourceVersion than the live object.

    400 for name and namespace, 409 for resourceVersion and for the uid of a PUT, which is a precondition; the
    uid of a patched object is an immutable field instead, so 422.
    """
    meta, current = new.get("metadata") or {}, live["metadata"]
    if meta is current:
        return
    name = current["name"]
    if (meta.get("name") or name) != name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if res.namespaced and (meta.get("namespace") or current["namespace"]) != current["namespace"]:
        raise bad_request(_OTHER_NAMESPACE)
    if check_uid and (meta.get("uid") or current["uid"]) != current["uid"]:
        if patched:
            words = f'Invalid value: "{meta["uid"]}": field is immutable'
            raise invalid(res, name, [Cause("FieldValueInvalid", words, "metadata.uid")])
        raise conflict(res, name, _uid_precondition_message(res, current, meta["uid"]))
    if (meta.get("resourceVersion") or current["resourceVersion"]) != current["resourceVersion"]:
        raise conflict(res, name)


def _uid_precondition_message(res: Resource, current: Object, uid: str) -> str:
    """Return the error of the etcd3 storage, with the key of the object as etcd would have it."""
    folders = (res.group if "." in res.group else "", res.plural, current.get("namespace", ""))
    prefix = "/".join(folder for folder in ("/registry", *folders) if folder)
    return (
        f"StorageError: invalid object, Code: 4, Key: {prefix}/{current['name']}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {uid}, UID in object meta: {current['uid']}"
    )


def metadata_for_update(live: Object, new: Object) -> Object:
    """Return the metadata of new with the system fields of live.

    The very metadata of live if new shares it.
    """
    current: Object = live["metadata"]
    client_meta = new.get("metadata") or {}
    if client_meta is current:
        return current
    meta: Object = {key: current[key] for key in SYSTEM_FIELDS if key in current}
    meta |= {
        key: value for key, value in client_meta.items() if key not in SYSTEM_FIELDS and value is not None
    }
    meta.setdefault("managedFields", current.get("managedFields", []))
    return meta


def check_finalizers(res: Resource, new: Object, live: Object) -> None:
    """Raise ApiError 422 when a finalizer is added to an object that is being deleted."""
    current = live["metadata"]
    before, after = current.get("finalizers") or [], new["metadata"].get("finalizers") or []
    additions = [finalizer for finalizer in after if finalizer not in before]
    if additions and "deletionTimestamp" in current:
        words = ", ".join(f'"{finalizer}"' for finalizer in additions)
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{words}}}"
        )
        raise invalid(res, current["name"], [Cause("FieldValueForbidden", message, "metadata.finalizers")])


def with_finalizers(obj: Object, finalizers: list[str]) -> Object:
    """Return the object with these finalizers; without the field if there are none."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "finalizers"}
    if finalizers:
        meta["finalizers"] = finalizers
    return {**obj, "metadata": meta}
