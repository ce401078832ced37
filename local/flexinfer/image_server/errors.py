"""Errors in the shape of OpenAI's API."""

import json
from typing import Any


class RequestError(Exception):
    """An error that is answered to the client; `code` is what programs match on, `message` is for people."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.param, self.retry_after = param, retry_after

    def body(self) -> dict[str, Any]:
        """Return the error body."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"  # noqa: PLR2004 -- HTTP's own
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def text(self) -> str:
        """Return the error body as JSON."""
        return json.dumps(self.body())


def invalid(message: str, param: str | None = None) -> RequestError:
    """400: the request itself is wrong."""
    return RequestError(400, message, "invalid_value", param=param)


def busy(waiting: int) -> RequestError:
    """429: as many requests wait as may."""
    message = f"{waiting} requests wait for this server, which draws one image at a time; try again later"
    return RequestError(429, message, "rate_limit_exceeded", retry_after=10)


def not_ready(why: str) -> RequestError:
    """503: the pipeline loads, is broken, or the server stops."""
    return RequestError(503, why, "not_ready", retry_after=5)


def stopped() -> RequestError:
    """503: the server was stopped before the image was finished."""
    return RequestError(503, "the server was stopped before the image was finished", "stopped", retry_after=5)
