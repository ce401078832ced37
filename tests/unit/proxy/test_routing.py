"""Routing: which Model a request names, and whether asking can bring it up."""

import pytest

from flexinfer.api.model import BackendStatus, LiteLLM, Model
from flexinfer.api.reasons import Reason
from flexinfer.proxy import routing
from tests.builders import a_model


def models(*given: Model) -> dict[str, Model]:
    """Return Models by key."""
    return {m.key: m for m in given}


@pytest.mark.parametrize(
    ("path", "host", "key", "rest"),
    [
        ("/v1/chat/completions", "127.0.0.1:7400", None, "/v1/chat/completions"),
        ("/model/ns/llama/v1/completions", "x", "ns/llama", "/v1/completions"),
        ("/v1/completions", "llama.ns", "ns/llama", "/v1/completions"),
        ("/v1/completions", "LLAMA.ns.svc.cluster.local.:80", "ns/llama", "/v1/completions"),
        ("/v1/completions", "flexinfer-proxy.flexinfer-system.svc", None, "/v1/completions"),
        ("/v1/completions", "api.example.com", None, "/v1/completions"),
        ("/v1/completions", "localhost", None, "/v1/completions"),
    ],
)
def test_path_and_host_name_a_model(path: str, host: str, key: str | None, rest: str) -> None:
    """The path first; a Host of any case, with or without port and final dot."""
    assert routing.target(path, host) == routing.Target(key, rest)


def test_a_body_names_a_model_by_its_bare_or_its_long_name() -> None:
    """Bare only in the door's default namespace."""
    here, there = a_model("llama"), a_model("llama", namespace="other", uid="u2")
    known = models(here, there)
    assert routing.resolve("llama", known, "default") is here
    assert routing.resolve("other/llama", known, "default") is there
    assert routing.resolve("default/llama", known, "default") is here
    assert routing.resolve("nobody", known, "default") is None


def test_an_alias_that_two_models_claim_names_neither() -> None:
    """Never a guess."""
    import msgspec  # noqa: PLC0415 -- only here

    told = LiteLLM(served_model_name="gpt-4")
    one, two = (
        msgspec.structs.replace(m, spec=msgspec.structs.replace(m.spec, litellm=told))
        for m in (a_model("a"), a_model("b"))
    )
    assert routing.resolve("gpt-4", models(one), "default") is one
    assert routing.resolve("gpt-4", models(one, two), "default") is None


def test_only_a_ready_model_that_stays_is_asked() -> None:
    """Draining and deleting get no new requests."""
    told = BackendStatus(address="127.0.0.9:8080")
    assert routing.ready(a_model(conditions=["Ready"], backend_status=told)) == "127.0.0.9:8080"
    draining = a_model(conditions=[("Ready", "False", Reason.DRAINING)], backend_status=told)
    assert routing.ready(draining) == ""
    going = a_model(conditions=["Ready"], backend_status=told, deletion_timestamp="2026-11-24T12:00:00Z")
    assert routing.ready(going) == ""


@pytest.mark.parametrize(
    ("said", "hopeless"),
    [
        (("Accepted", "False", Reason.INVALID_CONFIG), True),
        (("Cached", "False", Reason.SOURCE_NOT_FOUND), True),
        (("Cached", "False", Reason.CLAIM_NOT_FOUND), False),
        (("Ready", "False", Reason.LOADING_TIMEOUT), False),
        (("Wanted", "False", Reason.FIRST_START_FAILED), False),
    ],
)
def test_a_request_is_held_for_whatever_it_can_still_bring_up(
    said: tuple[str, str, str], *, hopeless: bool
) -> None:
    """A failed start is tried again by a request; a refused spec is not."""
    assert (routing.hopeless(a_model(conditions=[said])) is not None) == hopeless
