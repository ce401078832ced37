"""What a response of the API server that refuses means: its status and Status object as an ApiError."""

from collections.abc import Mapping

import msgspec

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


class _Status(msgspec.Struct, rename="camel"):
    message: str = ""
    reason: str = ""
    code: int = 0


def error_of(code: int, answer: bytes, headers: Mapping[str, str]) -> ApiError:
    """Return the error of a response that refuses, by its status and the Status object in its body."""
    try:
        status = msgspec.json.decode(answer, type=_Status)
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = _Status(message=answer[:200].decode(errors="replace") or f"HTTP {code}")
    if status.reason == "AlreadyExists":
        return AlreadyExistsError(status.message, code)
    after = headers.get("Retry-After", "")
    wait = float(after) if after.isdigit() else None
    return _BY_CODE.get(code, UnavailableError)(status.message, code, retry_after=wait)


def error_in_watch(raw: msgspec.Raw) -> ApiError:
    """Return the error that ends a watch. Raises msgspec.DecodeError for one that is no Status."""
    status = msgspec.json.decode(raw, type=_Status)
    return _BY_CODE.get(status.code, UnavailableError)(status.message, status.code)
