"""OpenAI's shapes: error bodies, the list of models, and what a request's body must say."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from flexinfer import backends
from flexinfer.api.model import Model
from flexinfer.proxy import routing


class Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    """What is answered instead of a model's words."""

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
        return msgspec.json.encode(
            {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}
        )

    def headers(self) -> dict[str, str]:
        """Return the headers; an SDK retries only what says that it may be retried."""
        found = {"x-should-retry": "true" if self.retry_after is not None else "false"}
        if self.retry_after is not None:
            found["Retry-After"] = str(self.retry_after)
        return found


class Asked(msgspec.Struct):
    """The two fields of a body that the door reads."""

    model: str = ""
    stream: bool | None = False


def read(body: bytes) -> tuple[Asked, dict[str, Any]]:
    """Return what a body asks for; Refusal 400 when it is not an object with a model."""
    try:
        whole = msgspec.json.decode(body)
        asked = msgspec.convert(whole, Asked)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError, RecursionError) as error:
        raise Refusal(
            400, f"the body is not a JSON object that we understand: {error}", "invalid_json"
        ) from error
    return asked, whole


def model_entry(model: Model, default: str) -> dict[str, Any]:
    """Return one entry of `/v1/models`; sleeping Models are listed too, with their state."""
    return {
        "id": routing.public_id(model, default),
        "object": "model",
        "created": _seconds(model.metadata.creation_timestamp),
        "owned_by": "flexinfer",
        "flexinfer": {
            "namespace": model.metadata.namespace,
            "name": model.metadata.name,
            "phase": routing.state(model),
            "backend": backends.canonical(model.spec.backend),
        },
    }


def _seconds(timestamp: str | None) -> int:
    """Return an API server's time as OpenAI's clients expect it."""
    return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0


def listing(models: Iterable[Model], default: str) -> bytes:
    """Return the body of `/v1/models`."""
    entries = [model_entry(m, default) for m in sorted(models, key=lambda m: m.key)]
    return msgspec.json.encode({"object": "list", "data": entries})
