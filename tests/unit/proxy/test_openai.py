"""OpenAI's shapes, as its clients read them."""

import msgspec
import pytest

from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.openai import listing, read
from tests.builders import a_model


def test_a_listed_model_has_the_fields_of_openai_and_its_state() -> None:
    """Models scaled to zero too; `created` is when it was applied, in seconds."""
    model = a_model("llama")
    created = msgspec.structs.replace(model.metadata, creation_timestamp="2026-11-24T12:00:00Z")
    body = msgspec.json.decode(listing([msgspec.structs.replace(model, metadata=created)], "default"))
    [entry] = body["data"]
    assert (body["object"], entry["object"], entry["id"]) == ("list", "model", "llama")
    assert entry["created"] == 1795521600


@pytest.mark.parametrize("body", [b"", b"{not json", b"[]", b'"text"', b'{"model": 3}', b"\xff"])
def test_an_invalid_body_is_a_400_with_the_cause(body: bytes) -> None:
    """Before any Model is started."""
    with pytest.raises(RequestError) as raised:
        read(body)
    assert (raised.value.status, raised.value.code) == (400, "invalid_json")


def test_a_client_retries_only_errors_that_allow_it() -> None:
    """OpenAI's SDKs read `x-should-retry`."""
    assert RequestError(404, "no such model", "model_not_found").headers() == {"x-should-retry": "false"}
    headers = RequestError(503, "not ready", "cold_start", retry_after=7).headers()
    assert headers == {"x-should-retry": "true", "Retry-After": "7"}
