"""Errors that the proxy answers itself, in OpenAI's shape: their status codes, codes and wording. Pure.

Every message says the state, its cause with numbers, and what to do. OpenAI's SDKs retry a request only
when the header `x-should-retry` says so; what may be retried carries Retry-After as well.
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.numbers import counted
from flexinfer.api.phase import Phase, described, explain, phase_of

RETRY_AFTER_SECONDS = 5
REQUEST_LINE = "the path with its query"
_AS_JSON = "send a JSON object with `model` as a string"
_AS_FORM = "send multipart/form-data with one field `model`"


class RequestError(Exception):
    """An error that is answered to the client; `code` is what programs match on, `message` is for people."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.kind, self.param, self.retry_after = kind, param, retry_after

    def body(self) -> bytes:
        """Return the error body."""
        message = self.message.encode(errors="replace").decode()  # it may quote what is not UTF-8
        return msgspec.json.encode(
            {"error": {"message": message, "type": self.kind, "param": self.param, "code": self.code}}
        )

    def headers(self) -> dict[str, str]:
        """Return the headers that tell a client whether and when to retry."""
        headers = {"x-should-retry": "true" if self.retry_after is not None else "false"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers


class ConnectError(Exception):
    """The connection to an engine was refused: no byte of the request was sent, so it may be sent again."""


# --- what the client sent


def invalid_api_key() -> RequestError:
    """401."""
    message = (
        "API key is missing or wrong; send it in the header `Authorization: Bearer KEY` or `x-api-key: KEY`"
    )
    return RequestError(401, message, "invalid_api_key", kind="authentication_error")


def invalid_body(cause: Exception) -> RequestError:
    """400: not a JSON object with the fields that the proxy reads."""
    return RequestError(400, f"invalid request body: {cause}; {_AS_JSON}", "invalid_json")


def invalid_form(cause: str) -> RequestError:
    """400: no multipart/form-data that every server reads the same way; `cause` says what is wrong with it."""
    return RequestError(400, f"invalid form: {cause}; {_AS_FORM}", "invalid_form")


def invalid_header(name: str, cause: str, status: int = 400) -> RequestError:
    """400 or 417: a header that the proxy cannot handle; `cause` says what is wrong and what to send."""
    return RequestError(status, f"header {name} {cause}", "invalid_header")


def invalid_path(cause: str) -> RequestError:
    """400: a path that is not text, or leaves the one that it names; `cause` says which."""
    message = f"the path is not valid: {cause}; send the path of the engine's API itself"
    return RequestError(400, message, "invalid_path")


def head_too_large(part: str, limit: int) -> RequestError:
    """431 or 414: `part` is what is larger than `limit` bytes."""
    status = 414 if part == REQUEST_LINE else 431
    message = f"{part} is larger than {limit} bytes; send a shorter one"
    return RequestError(status, message, "request_header_too_large")


def too_many_headers(limit: int) -> RequestError:
    """431."""
    return RequestError(
        431, f"the request has more than {limit} headers; send fewer", "request_header_too_large"
    )


def invalid_http(cause: str) -> RequestError:
    """400: what arrived is not HTTP that every server reads the same way."""
    message = f"the request is not valid HTTP/1.1: {cause}; send it with an HTTP library, without a proxy that rewrites it"
    return RequestError(400, message, "invalid_http")


def method_not_served(method: str, path: str, methods: Sequence[str]) -> RequestError:
    """405: a path that is served, by `methods` alone."""
    message = f"{path} is not served by {method}; send {_any_of(methods)}"
    return RequestError(405, message, "invalid_request")


def _any_of(methods: Sequence[str]) -> str:
    """Return methods as a choice, such as `GET, HEAD or POST`."""
    *others, last = methods
    return f"{', '.join(others)} or {last}" if others else last


def path_not_served(method: str, path: str, model: Model | None, paths: Sequence[str]) -> RequestError:
    """404: a path that the Model's backend does not serve, or no backend does; `paths` are those that it does."""
    subject, serves = "no backend serves", f"backends serve {', '.join(paths)}"
    if model is not None:
        subject = f"model {model.metadata.name} does not serve"
        serves = f"its backend {model.spec.backend} serves {', '.join(paths)}"
    return RequestError(404, f"{subject} {method} {path}; {serves}", "not_found")


def model_missing(method: str, path: str) -> RequestError:
    """400: neither the path, nor the Host header, nor the body names a Model."""
    own = f"ask below the model's own path, /model/<namespace>/<name>{path}"
    message = (
        f"the request names no model; set `model` in the request body, or {own}"
        if method == "POST"
        else f"a {method} request has no body to name a model in; {own}"
    )
    return RequestError(400, message, "missing_required_parameter", param="model")


def body_too_large(limit: int) -> RequestError:
    """413; `limit` is in bytes."""
    message = (
        f"the request body is larger than {limit >> 20} MiB (FLEXINFER_BODY_LIMIT_MIB); send a smaller one"
    )
    return RequestError(413, message, "body_too_large")


def body_too_slow(seconds: float) -> RequestError:
    """408; `seconds` is how long the body may take."""
    message = f"the request body did not arrive within {seconds:g}s; send all that Content-Length announces"
    return RequestError(408, message, "request_timeout")


def model_not_found(name: str, available: Sequence[str]) -> RequestError:
    """404; `available` are the names to choose from."""
    message = f"model {name!r} does not exist; available models: {', '.join(available) or 'none'}"
    return RequestError(404, message, "model_not_found", param="model")


def models_not_read() -> RequestError:
    """503: which Models there are is not known to a proxy that has just started."""
    message = f"the proxy has just started and has not read the Models from NATS yet; retry in {RETRY_AFTER_SECONDS}s"
    return _retryable(message, "starting")


def model_ambiguous(name: str, ids: Sequence[str]) -> RequestError:
    """404: a name that means several Models; `ids` are those that mean one each."""
    message = f"model {name!r} means more than one Model: {', '.join(ids)}; send one of these names"
    return RequestError(404, message, "model_not_found", param="model")


# --- what the Model is


def model_deleted(model: Model) -> RequestError:
    """404: deleted after the request arrived."""
    message = f"model {model.metadata.name} was deleted"
    return RequestError(404, message, "model_not_found", param="model")


def model_failed(model: Model, condition: Condition) -> RequestError:
    """503, not to be retried: a condition that no request can change is False."""
    message = f"model {model.metadata.name} cannot serve requests: {described(condition)}"
    return RequestError(503, message, "model_failed", kind="server_error")


def nats_unavailable(model: Model) -> RequestError:
    """503: the Model is not ready, and without NATS nothing starts it."""
    phase = phase_of(model.status.conditions, model.metadata.generation)
    state = "scaled to zero" if phase == Phase.IDLE else f"not ready (phase {phase})"
    message = (
        f"model {model.metadata.name} is {state} and cannot be started: NATS is unavailable; "
        f"retry in {RETRY_AFTER_SECONDS}s"
    )
    return _retryable(message, "nats_unavailable")


def queue_full(model: Model, limit: str) -> RequestError:
    """503; `limit` is what the queue holds at most."""
    message = (
        f"request queue of model {model.metadata.name} is full ({limit}); retry in {RETRY_AFTER_SECONDS}s"
    )
    return _retryable(message, "queue_full")


def not_ready_in_time(model: Model, waited_seconds: float) -> RequestError:
    """503: the Model was not ready by the request's deadline; `waited_seconds` is in seconds."""
    conditions = explain(model.status.conditions, model.metadata.generation)
    limit = f"coldStartTimeout {model.spec.serverless.cold_start_timeout}"
    name, seconds = model.metadata.name, f"{round(waited_seconds, 1):g}s"
    message = f"model {name} was not ready within {seconds} ({limit}): {conditions}; retry in {RETRY_AFTER_SECONDS}s"
    return _retryable(message, "cold_start_timeout")


def no_slot_in_time(model: Model, waited_seconds: float, in_flight: int) -> RequestError:
    """503: the Model is ready, but other requests used its whole capacity for as long as this one may queue."""
    message = (
        f"model {model.metadata.name} is ready, but had no free slot within {waited_seconds:.0f}s (FLEXINFER_QUEUE_SECONDS): "
        f"{counted(in_flight, 'request')} in flight; retry in {RETRY_AFTER_SECONDS}s"
    )
    return _retryable(message, "queue_timeout")


def _retryable(message: str, code: str) -> RequestError:
    return RequestError(503, message, code, kind="server_error", retry_after=RETRY_AFTER_SECONDS)


def internal() -> RequestError:
    """500: an error of the proxy itself."""
    message = "the proxy failed to handle the request; its log has the cause"
    return RequestError(500, message, "internal_error", kind="server_error")


# --- what the engine did


def connections_refused(model: Model, attempts: int) -> RequestError:
    """502: the engine is said to be ready and accepts no connection."""
    message = (
        f"the engine of model {model.metadata.name} refused the connection "
        f"({counted(attempts, 'attempt')}); retry in {RETRY_AFTER_SECONDS}s"
    )
    return RequestError(502, message, "bad_gateway", kind="upstream_error", retry_after=RETRY_AFTER_SECONDS)


def no_response(model: Model, cause: str, *, retry: bool = False) -> RequestError:
    """502: the engine may have taken the request. To be retried only if the connection was an idle one that the engine closed."""
    remedy = f"retry in {RETRY_AFTER_SECONDS}s" if retry else "send it again if it may be served twice"
    message = f"the engine of model {model.metadata.name} closed the connection before it responded: {cause}; {remedy}"
    after = RETRY_AFTER_SECONDS if retry else None
    return RequestError(502, message, "bad_gateway", kind="upstream_error", retry_after=after)


def not_passed_on(model: Model, status: int) -> RequestError:
    """502: a response that a client of the proxy cannot handle."""
    message = (
        f"the engine of model {model.metadata.name} answered HTTP {status}, which the proxy does not pass on: "
        "a redirect or a protocol upgrade would bypass the proxy"
    )
    return RequestError(502, message, "bad_gateway", kind="upstream_error")


def response_cut() -> RequestError:
    """Sent as the last event of a stream: the status code has been sent already."""
    message = "the engine closed the connection before the response was complete"
    return RequestError(502, message, "upstream_disconnected", kind="upstream_error")
