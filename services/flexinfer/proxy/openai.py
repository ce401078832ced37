"""OpenAI's shapes: what a request's body must say, and the list of models."""

from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from flexinfer import backends
from flexinfer.api import names
from flexinfer.api.foreign_json import ForeignJsonError, read_json
from flexinfer.api.model import Model
from flexinfer.proxy import errors, routing


class RequestFields(msgspec.Struct):
    """The two fields of a body that the proxy checks."""

    model: str | None = None
    stream: bool | None = False


def read(body: bytes) -> RequestFields:
    """Return the fields of a body that the proxy checks; raises RequestError (400)."""
    try:
        return read_json(body, RequestFields)
    except ForeignJsonError as error:
        raise errors.invalid_body(error) from error


def with_model(body: bytes, name: str) -> bytes:
    """Return a body with another `model`, and all else as the client wrote it; raises RequestError (400) for one that is not JSON.

    Only the object itself is decoded: a body may be tens of MiB of base64.
    """
    try:
        fields = read_json(body, dict[str, msgspec.Raw])
        return msgspec.json.encode({**fields, "model": name})
    except ValueError as error:
        raise errors.invalid_body(error) from error


def model_entry(model: Model, default_namespace: str, name: str = "") -> dict[str, object]:
    """Return one entry of `/v1/models`; Models scaled to zero are listed too, with their phase.

    `name` is an alias or a label; `root` is then the Model that a request by that name goes to now.
    """
    own = routing.public_id(model, default_namespace)
    return {
        "id": name or own,
        "object": "model",
        "created": _unix_seconds(model.metadata.creation_timestamp),
        "owned_by": "flexinfer",
        "root": own,
        "flexinfer": {
            "namespace": model.metadata.namespace,
            "name": model.metadata.name,
            "phase": routing.phase(model),
            "backend": backends.canonical(model.spec.backend),
            "aliases": names.aliases(model),
            "serviceLabels": model.spec.service_labels,
        },
    }


def _unix_seconds(timestamp: str | None) -> int:
    """Return an API server's time as OpenAI's clients expect it; 0 for what is no time."""
    try:
        return int(datetime.fromisoformat(timestamp).timestamp()) if timestamp else 0
    except (ValueError, OverflowError):
        return 0


def listing(
    models: Iterable[Model], default_namespace: str, further: Mapping[str, Model] | None = None
) -> bytes:
    """Return the body of `/v1/models`: the Models, then their further names."""
    entries = [model_entry(m, default_namespace) for m in sorted(models, key=lambda m: m.key)]
    entries += [model_entry(model, default_namespace, name) for name, model in (further or {}).items()]
    return msgspec.json.encode({"object": "list", "data": entries})
