"""OpenAI's shapes, as its clients read them."""

import msgspec
import pytest

from flexinfer.proxy.openai import Refusal, listing, read
from tests.builders import a_model


def test_a_listed_model_has_the_fields_of_openai_and_its_state() -> None:
    """Sleeping ones too; `created` is when it was applied, in seconds."""
    model = a_model("llama")
    created = msgspec.structs.replace(model.metadata, creation_timestamp="2026-11-24T12:00:00Z")
    body = msgspec.json.decode(listing([msgspec.structs.replace(model, metadata=created)], "default"))
    [entry] = body["data"]
    assert (body["object"], entry["object"], entry["id"]) == ("list", "model", "llama")
    assert entry["created"] == 1795521600


@pytest.mark.parametrize("body", [b"", b"{not json", b"[]", b'"text"', b'{"model": 3}', b"\xff"])
def test_a_body_that_is_no_request_is_a_400_in_words(body: bytes) -> None:
    """Before anything wakes."""
    with pytest.raises(Refusal) as refused:
        read(body)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")


def test_a_client_retries_only_what_says_that_it_may() -> None:
    """OpenAI's SDKs read `x-should-retry`."""
    assert Refusal(404, "no such model", "model_not_found").headers() == {"x-should-retry": "false"}
    told = Refusal(503, "it wakes", "cold_start", retry_after=7).headers()
    assert told == {"x-should-retry": "true", "Retry-After": "7"}
