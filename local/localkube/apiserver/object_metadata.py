"""What the API itself keeps in an object's metadata: name, uid, times, generation, version; and what a writer may say of them.

Whether names, labels and annotations are well formed is for the registry to say.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from localkube.apiserver.errors import ApiError, Cause, bad_request, conflict, invalid
from localkube.apiserver.resources import Object, Resource

SYSTEM: Final = (  # what stays as it was, whatever a writer sends
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
class Birth:
    """What a new object gets from the API."""

    uid: str
    time: str
    generation: int | None  # None: this resource has no generations


def rfc3339(moment: datetime) -> str:
    """Return a moment as the API writes it, in whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def generated_name(prefix: str, uid: str) -> str:
    """Return a name made from a prefix and, for its last five letters, a uid."""
    number = int.from_bytes(uid.encode(), "big") % 2_147_483_647  # a prime: every digit of the uid counts
    letters = []
    for _ in range(_SUFFIX_LENGTH):
        number, place = divmod(number, len(_SUFFIX_LETTERS))
        letters.append(_SUFFIX_LETTERS[place])
    return prefix[: _LONGEST_GENERATED - _SUFFIX_LENGTH] + "".join(letters)


def born(res: Resource, namespace: str | None, obj: Object, birth: Birth) -> Object:
    """Return a new object with the metadata that it starts with; ApiError when what was sent contradicts the request."""
    sent = obj.get("metadata") or {}
    if sent.get("resourceVersion"):
        # a bare error there, so an internal one here
        raise ApiError(500, "", "resourceVersion should not be set on objects to be created")
    system = {"name": _name(res, sent, birth.uid)}
    if res.namespaced:
        if (sent.get("namespace") or namespace) != namespace:
            raise bad_request(_OTHER_NAMESPACE)
        system["namespace"] = namespace or ""
    system |= {"uid": birth.uid, "creationTimestamp": birth.time}
    kept = {key: value for key, value in sent.items() if key not in SYSTEM and value is not None}
    generation = {} if birth.generation is None else {"generation": birth.generation}
    rest = {name: value for name, value in obj.items() if name not in ("apiVersion", "kind", "metadata")}
    return {**typed(res, obj), "metadata": {**system, **generation, **kept}, **rest}


def _name(res: Resource, sent: Object, uid: str) -> str:
    name: str = sent.get("name") or ""
    if not name and sent.get("generateName"):
        name = generated_name(sent["generateName"], uid)
    if not name:
        words = "Required value: name or generateName is required"
        raise invalid(res, "", [Cause("FieldValueRequired", words, "metadata.name")])
    return name


def typed(res: Resource, obj: Object) -> Object:
    """Return apiVersion and kind; ApiError when the body says that it is something else."""
    version, kind = obj.get("apiVersion") or res.api_version, obj.get("kind") or res.kind
    if version != res.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({res.api_version})"
        )
    if kind != res.kind:
        raise bad_request(f"the kind in the data ({kind}) does not match the expected kind ({res.kind})")
    return {"apiVersion": version, "kind": kind}


def check_address(
    res: Resource, live: Object, wanted: Object, *, uid_matters: bool, patched: bool = False
) -> None:
    """Raise ApiError when a body names another object, another uid or another version than the one it is written to.

    A uid that a PUT brings is a precondition, one that a patch makes is a change of what nobody may change.
    """
    meta, known = wanted.get("metadata") or {}, live["metadata"]
    if meta is known:
        return
    name = known["name"]
    if (meta.get("name") or name) != name:
        raise bad_request(
            f"the name of the object ({meta['name']}) does not match the name on the URL ({name})"
        )
    if res.namespaced and (meta.get("namespace") or known["namespace"]) != known["namespace"]:
        raise bad_request(_OTHER_NAMESPACE)
    if uid_matters and (meta.get("uid") or known["uid"]) != known["uid"]:
        if patched:
            words = f'Invalid value: "{meta["uid"]}": field is immutable'
            raise invalid(res, name, [Cause("FieldValueInvalid", words, "metadata.uid")])
        raise conflict(res, name, _uid_words(res, known, meta["uid"]))
    if (meta.get("resourceVersion") or known["resourceVersion"]) != known["resourceVersion"]:
        raise conflict(res, name)


def _uid_words(res: Resource, known: Object, uid: str) -> str:
    folders = (res.group if "." in res.group else "", res.plural, known.get("namespace", ""))
    where = "/".join(folder for folder in ("/registry", *folders) if folder)
    return (
        f"StorageError: invalid object, Code: 4, Key: {where}/{known['name']}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: UID in precondition: {uid}, UID in object meta: {known['uid']}"
    )


def rewritten(live: Object, wanted: Object) -> Object:
    """Return the metadata of wanted, with what is the API's own taken from live; live's own where nothing was sent anew."""
    known: Object = live["metadata"]
    sent = wanted.get("metadata") or {}
    if sent is known:
        return known
    meta: Object = {key: known[key] for key in SYSTEM if key in known}
    meta |= {key: value for key, value in sent.items() if key not in SYSTEM and value is not None}
    meta.setdefault("managedFields", known.get("managedFields", []))
    return meta


def check_finalizers(res: Resource, new: Object, live: Object) -> None:
    """Raise ApiError 422 when a finalizer is added to what is being deleted."""
    known = live["metadata"]
    before, after = known.get("finalizers") or [], new["metadata"].get("finalizers") or []
    added = [finalizer for finalizer in after if finalizer not in before]
    if added and "deletionTimestamp" in known:
        words = ", ".join(f'"{finalizer}"' for finalizer in added)
        message = (
            "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{words}}}"
        )
        raise invalid(res, known["name"], [Cause("FieldValueForbidden", message, "metadata.finalizers")])


def with_finalizers(obj: Object, finalizers: list[str]) -> Object:
    """Return the object with these finalizers; without the field when there are none."""
    meta = {key: value for key, value in obj["metadata"].items() if key != "finalizers"}
    if finalizers:
        meta["finalizers"] = finalizers
    return {**obj, "metadata": meta}
