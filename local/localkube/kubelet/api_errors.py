"""Errors of requests to the API server.

ApiError
├── NotFoundError            404
├── ConflictError            409: the object changed meanwhile, or a precondition failed
│   └── AlreadyExistsError   409 with reason AlreadyExists
├── InvalidError             400, 415, 422: the API server refuses the content
├── ForbiddenError           401, 403
├── ExpiredError             410: the resourceVersion is too old to watch from
└── UnavailableError         no answer, 429 or 5xx: retry later
"""

from collections.abc import Mapping


class ApiError(Exception):
    """A request failed. `code` is its HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NotFoundError(ApiError):
    """The object does not exist."""


class ConflictError(ApiError):
    """The object changed meanwhile, or a precondition failed."""


class AlreadyExistsError(ConflictError):
    """An object of that name exists."""


class InvalidError(ApiError):
    """The API server refuses the content."""


class ForbiddenError(ApiError):
    """The credentials are not accepted, or do not permit the request."""


class ExpiredError(ApiError):
    """The resourceVersion is too old to watch from: list again."""


class UnavailableError(ApiError):
    """The API server does not answer, or is overloaded."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    400: InvalidError,
    401: ForbiddenError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: ExpiredError,
    415: InvalidError,
    422: InvalidError,
}


def error_of(code: int, message: str, reason: str = "") -> ApiError:
    """Return the error of a failed request by its HTTP status and the reason in its body."""
    if reason == "AlreadyExists":
        return AlreadyExistsError(message, code)
    return _BY_CODE.get(code, UnavailableError)(message, code)
