"""The errors of the API: code, reason and message of a real API server (apimachinery/pkg/api/errors).

One exception, and one constructor for each kind of error. kubectl prints the messages as they are, so their
wording follows Kubernetes to the letter.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from localkube.apiserver.resources import Object, Resource

OPTIMISTIC_LOCK = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


class ApiError(Exception):
    """A failed request: HTTP status code, reason (metav1.StatusReason), message, StatusDetails or None."""

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details

    def status(self) -> Object:
        """Return the error as a metav1.Status."""
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


class StrictDecodingError(ApiError):
    """400: unknown or duplicate fields under `fieldValidation=Strict`; `problem` lists them."""

    def __init__(self, kind: str, version: str, problem: str) -> None:
        message = f'{kind} in version "{version}" cannot be handled as a {kind}: {problem}'
        super().__init__(400, "BadRequest", message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Cause:
    """One field and what is wrong with it (metav1.StatusCause)."""

    reason: str  # FieldValueRequired, FieldValueInvalid, FieldManagerConflict, ...
    message: str
    field: str

    def json(self) -> Object:
        """Return the cause as JSON."""
        return {"reason": self.reason, "message": self.message, "field": self.field}


def not_found(res: Resource, name: str) -> ApiError:
    """Return a 404: there is no object of that name."""
    return ApiError(404, "NotFound", f'{res.qualified} "{name}" not found', details(res, name))


def already_exists(res: Resource, name: str) -> ApiError:
    """Return a 409: there is already an object of that name."""
    return ApiError(409, "AlreadyExists", f'{res.qualified} "{name}" already exists', details(res, name))


def conflict(res: Resource, name: str, why: str = OPTIMISTIC_LOCK) -> ApiError:
    """Return a 409: a precondition, by default the resourceVersion, does not hold."""
    message = f'Operation cannot be fulfilled on {res.qualified} "{name}": {why}'
    return ApiError(409, "Conflict", message, details(res, name))


def invalid(res: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """Return a 422 with the invalid fields; several are in brackets, as in an ErrorList."""
    problems = [f"{cause.field}: {cause.message}" for cause in causes]
    what = problems[0] if len(problems) == 1 else "[" + ", ".join(problems) + "]"
    more = {
        "name": name,
        "group": res.group,
        "kind": res.kind,
        "causes": [cause.json() for cause in causes],
    }
    return ApiError(422, "Invalid", f'{res.qualified_kind} "{name}" is invalid: {what}', _without_empty(more))


def resource_version_required(res: Resource, name: str) -> ApiError:
    """Return a 422: a PUT of this resource needs metadata.resourceVersion."""
    cause = Cause(
        "FieldValueInvalid", "Invalid value: 0: must be specified for an update", "metadata.resourceVersion"
    )
    message = f'{res.qualified} "{name}" is invalid: {cause.field}: {cause.message}'
    return ApiError(422, "Invalid", message, details(res, name) | {"causes": [cause.json()]})


def bad_request(message: str) -> ApiError:
    """Return a 400: the request cannot be decoded or has wrong options."""
    return ApiError(400, "BadRequest", message)


def forbidden(res: Resource, name: str, why: str, causes: Sequence[Cause] = ()) -> ApiError:
    """Return a 403: the object, or what the request does to it, is not allowed."""
    more = details(res, name)
    if causes:
        more["causes"] = [cause.json() for cause in causes]
    return ApiError(403, "Forbidden", f'{res.qualified} "{name}" is forbidden: {why}', more)


def expired(message: str) -> ApiError:
    """Return a 410: the requested resourceVersion is older than the history that is kept."""
    return ApiError(410, "Expired", message)


def method_not_allowed(res: Resource) -> ApiError:
    """Return a 405: the resource does not support the verb."""
    return ApiError(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
        details(res, ""),
    )


def no_such_resource() -> ApiError:
    """Return a 404: no resource is served at the path."""
    return ApiError(404, "NotFound", "the server could not find the requested resource", {})


def unprocessable(message: str) -> ApiError:
    """Return a 422: a well-formed patch cannot be applied to the object."""
    return ApiError(422, "Invalid", message, {})


def invalid_patch(result: str, problem: str) -> ApiError:
    """Return a 422: the result of a patch, given as JSON, fails strict decoding."""
    cause = Cause(
        "FieldValueInvalid", f"Invalid value: {json.dumps(result, ensure_ascii=False)}: {problem}", "patch"
    )
    return ApiError(422, "Invalid", f' "" is invalid: patch: {cause.message}', {"causes": [cause.json()]})


def unsupported_media_type(message: str) -> ApiError:
    """Return a 415: the Content-Type of the body is not supported."""
    return ApiError(415, "UnsupportedMediaType", message)


def details(res: Resource, name: str) -> Object:
    """Return the StatusDetails of an object; fields without a value are left out."""
    return _without_empty({"name": name, "group": res.group, "kind": res.plural})


def _without_empty(fields: Object) -> Object:
    return {key: value for key, value in fields.items() if value != ""}
