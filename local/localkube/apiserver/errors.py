"""What the local API answers when it says no: code, reason and words of a real API server.

One exception, and one function for each kind of refusal; kubectl prints these texts as they are.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from localkube.apiserver.resources import Object, Resource

OPTIMISTIC_LOCK = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


class ApiError(Exception):
    """A refusal, with its HTTP status, the machine's reason and a sentence for a person."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Object:
        """Return it as a metav1.Status."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        return status | {"code": self.code}


class StrictError(ApiError):
    """Fields that nobody knows, where a client asked for none of them; `words` says which."""

    def __init__(self, kind: str, version: str, words: str) -> None:
        text = f'{kind} in version "{version}" cannot be handled as a {kind}: {words}'
        super().__init__(400, "BadRequest", text)
        self.words = words


@dataclass(frozen=True, slots=True)
class Cause:
    """One field and what is wrong with it."""

    reason: str  # FieldValueRequired, FieldValueInvalid, FieldManagerConflict, ...
    message: str
    field: str

    def json(self) -> Object:
        """Return it as a metav1.StatusCause."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


def not_found(res: Resource, name: str) -> ApiError:
    """Say that there is no object of that name."""
    return ApiError(404, "NotFound", f'{res.qualified} "{name}" not found', details(res, name))


def exists(res: Resource, name: str) -> ApiError:
    """Say that the name is taken."""
    return ApiError(409, "AlreadyExists", f'{res.qualified} "{name}" already exists', details(res, name))


def conflict(res: Resource, name: str, why: str = OPTIMISTIC_LOCK) -> ApiError:
    """Say that a precondition does not hold."""
    message = f'Operation cannot be fulfilled on {res.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details(res, name))


def invalid(res: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Say which fields are wrong; one is named plainly, several stand in brackets as kubectl users know them."""
    words = [f"{cause.field}: {cause.message}" for cause in causes]
    what = words[0] if len(words) == 1 else "[" + ", ".join(words) + "]"
    more = {
        "name": name,
        "group": res.group,
        "kind": res.kind,
        "causes": [cause.json() for cause in causes],
    }
    return ApiError(422, "Invalid", f'{res.qualified_kind} "{name}" is invalid: {what}', _without_empty(more))


def version_required(res: Resource, name: str) -> ApiError:
    """Say that a PUT of such an object must name the version that it replaces."""
    cause = Cause(
        "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
    )
    message = f'{res.qualified} "{name}" is invalid: {cause.field}: {cause.message}'
    return ApiError(422, "Invalid", message, details(res, name) | {"causes": [cause.json()]})


def bad_request(message: str) -> ApiError:
    """Say that the request itself cannot be understood."""
    return ApiError(400, "BadRequest", message)


def forbidden(res: Resource, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """Say that the object is known, and this is not allowed with it."""
    more = details(res, name)
    if causes:
        more["causes"] = [cause.json() for cause in causes]
    return ApiError(403, "Forbidden", f'{res.qualified} "{name}" is forbidden: {why}', more)


def expired(message: str) -> ApiError:
    """Say that the version asked for is older than what is kept."""
    return ApiError(410, "Expired", message)


def method_not_allowed(res: Resource) -> ApiError:
    """Say that this resource has no such verb."""
    return ApiError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        details(res, ""),
    )


def no_such_resource() -> ApiError:
    """Say that the path names nothing that is offered."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def unprocessable(message: str) -> ApiError:
    """Say that a patch is well formed and does not fit the object."""
    return ApiError(422, "Invalid", message, {})


def unfit_patch(text: str, words: str) -> ApiError:
    """Say that what a patch makes of an object, as JSON, has fields that nobody knows."""
    cause = Cause(
        "FieldValueInvalid", f"Invalid value: {json.dumps(text, ensure_ascii=False)}: {words}", "patch"
    )
    return ApiError(422, "Invalid", f' "" is invalid: patch: {cause.message}', {"causes": [cause.json()]})


def unsupported_media(message: str) -> ApiError:
    """Say that the body's type is none that is taken here."""
    return ApiError(415, "UnsupportedMediaType", message)


def details(res: Resource, name: str) -> Object:
    """Return the StatusDetails that name an object."""
    return _without_empty({"name": name, "group": res.group, "kind": res.plural})


def _without_empty(fields: Object) -> Object:
    return {key: value for key, value in fields.items() if value != ""}
