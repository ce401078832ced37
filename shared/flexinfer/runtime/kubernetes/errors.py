"""What a response of the API server that refuses means: its status and Status object as an ApiError."""

from collections.abc import Mapping

import msgspec

from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.runtime.kubernetes.api import (
    AlreadyExistsError,
    ApiError,
    ConflictError,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)

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


class Status(msgspec.Struct, rename="camel"):
    """The Status object of the API, reduced to what is read."""

    message: str = ""
    reason: str = ""
    code: int = 0


def error_of(code: int, answer: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return the error of a response that refuses, by its status and the Status object in its body."""
    try:
        status = read_json(answer, Status)
    except ForeignJsonError:
        status = Status(message=answer[:200].decode(errors="replace") or f"HTTP {code}")
    after = headers.get("Retry-After", "")
    wait = float(after) if after.isdigit() else None
    return error_of_status(msgspec.structs.replace(status, code=code), wait)


def error_of_status(status: Status, retry_after: float | None = None) -> ApiError:
    """Return the error that a Status object means, in a response or in a watch."""
    if status.reason == "AlreadyExists":
        return AlreadyExistsError(status.message, status.code)
    return _BY_CODE.get(status.code, UnavailableError)(status.message, status.code, retry_after=retry_after)
