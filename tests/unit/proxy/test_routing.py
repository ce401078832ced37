"""Routing: which Model a request names, and whether that Model can serve it."""

import msgspec
import pytest

from flexinfer.api.model import BackendStatus, LiteLLM, Model
from flexinfer.api.reasons import Reason
from flexinfer.proxy import routing
from flexinfer.proxy.models import ModelTable
from tests.builders import a_model


def a_table(*models: Model) -> ModelTable:
    """Return a table of these Models."""
    table = ModelTable()
    for model in models:
        table.observe(model)
    return table


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
        ("/v1/completions", "mistral.ns", None, "/v1/completions"),
        ("/v1/completions", "llama.lan", None, "/v1/completions"),
        ("/v1/completions", "nas.local:8080", None, "/v1/completions"),
        ("/v1/completions", "gpu-box.svc.example.com", None, "/v1/completions"),
        ("/model/ns/absent/v1/completions", "llama.ns", "ns/absent", "/v1/completions"),
        ("//model/ns/llama//v1/completions/", "x", "ns/llama", "/v1/completions"),
    ],
)
def test_path_and_host_name_a_model(path: str, host: str, key: str | None, rest: str) -> None:
    """The path first; a Host of any case, with or without port and final dot, but only that of a Model that exists."""
    assert routing.match_request(path, host, {"ns/llama"}) == routing.RouteMatch(key, rest)


def test_a_body_names_a_model_by_its_bare_or_its_long_name() -> None:
    """Bare only in the proxy's default namespace."""
    local, remote = a_model("llama"), a_model("llama", namespace="other", uid="u2")
    table = a_table(local, remote)
    assert routing.find_model("llama", table, "default") is local
    assert routing.find_model("other/llama", table, "default") is remote
    assert routing.find_model("default/llama", table, "default") is local
    assert routing.find_model("unknown", table, "default") is None


def test_an_alias_that_two_models_claim_names_neither() -> None:
    """Never a guess."""
    litellm = LiteLLM(served_model_name="gpt-4")
    one, two = (
        msgspec.structs.replace(m, spec=msgspec.structs.replace(m.spec, litellm=litellm))
        for m in (a_model("a"), a_model("b"))
    )
    assert routing.find_model("gpt-4", a_table(one), "default") is one
    assert routing.find_model("gpt-4", a_table(one, two), "default") is None
    assert routing.candidates("gpt-4", a_table(one, two), "default") == ["a", "b"]
    assert routing.candidates("default/gpt-4", a_table(one, two), "default") == ["a", "b"]
    assert routing.candidates("other/gpt-4", a_table(one, two), "default") == []


def test_requests_are_sent_only_to_a_ready_model_that_is_not_deleted() -> None:
    """Models that drain or are being deleted get no new requests."""
    backend = BackendStatus(address="127.0.0.9:8080")
    assert routing.ready_address(a_model(conditions=["Ready"], backend_status=backend)) == "127.0.0.9:8080"
    draining = a_model(conditions=[("Ready", "False", Reason.DRAINING)], backend_status=backend)
    assert routing.ready_address(draining) == ""
    deleting = a_model(
        conditions=["Ready"], backend_status=backend, deletion_timestamp="2026-11-24T12:00:00Z"
    )
    assert routing.ready_address(deleting) == ""


@pytest.mark.parametrize(
    ("condition", "permanent"),
    [
        (("Accepted", "False", Reason.INVALID_CONFIG), True),
        (("Cached", "False", Reason.SOURCE_NOT_FOUND), True),
        (("Cached", "False", Reason.CLAIM_NOT_FOUND), False),
        (("Ready", "False", Reason.LOADING_TIMEOUT), False),
        (("Wanted", "False", Reason.FIRST_START_FAILED), False),
    ],
)
def test_a_request_is_queued_unless_no_request_can_make_the_model_ready(
    condition: tuple[str, str, str], *, permanent: bool
) -> None:
    """A request retries a failed start, not a spec that was not accepted."""
    assert (routing.permanent_failure(a_model(conditions=[condition])) is not None) == permanent
