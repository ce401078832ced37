"""Accepted: which specs can be served, and what the message says of the others."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api import conditions, reasons
from flexinfer.api.model import Cache, Gpu, LiteLLM, Model, Serverless
from flexinfer.api.podspec import Resources
from flexinfer.api.reasons import Reason
from flexinfer.watcher.accepted import accepted, without_effect
from tests.builders import a_model


def with_spec(**changes: object) -> Model:
    """Return a valid Model with changes of its spec."""
    model = a_model()
    return msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, **changes))


REFUSED = [
    pytest.param(
        a_model(namespace="flexinfer-system"), Reason.RESERVED_NAMESPACE, "another namespace", id="namespace"
    ),
    pytest.param(with_spec(backend="lamacpp"), Reason.UNKNOWN_BACKEND, "llamacpp", id="backend"),
    pytest.param(with_spec(source="s3://bucket"), Reason.INVALID_SOURCE, "HF://", id="scheme"),
    pytest.param(with_spec(source="pvc://models/../etc"), Reason.INVALID_SOURCE, "pvc://", id="traversal"),
    pytest.param(with_spec(source="ollama://llama3:8b"), Reason.UNSUPPORTED_SOURCE, "it serves", id="source"),
    pytest.param(
        with_spec(backend="vllm", source="HF://a/b"), Reason.UNSUPPORTED_VENDOR, "spec.gpu", id="vendor"
    ),
    pytest.param(
        with_spec(config={"contextsize": 1}),
        Reason.INVALID_CONFIG,
        "did you mean contextSize, an integer",
        id="config",
    ),
    pytest.param(
        with_spec(gpu=Gpu(vendor="cpu", count=1)), Reason.INVALID_SPEC, "remove them", id="cpu with devices"
    ),
    pytest.param(with_spec(gpu=Gpu(count=-1)), Reason.INVALID_SPEC, "at least 1", id="negative count"),
    pytest.param(
        with_spec(serverless=Serverless(idle_timeout="1 day")),
        Reason.INVALID_SPEC,
        "idleTimeout",
        id="duration",
    ),
    pytest.param(
        with_spec(resources=Resources(requests={"cpu": "lots"})),
        Reason.INVALID_SPEC,
        "not a quantity",
        id="quantity",
    ),
    pytest.param(
        with_spec(resources=Resources(limits={"memory": "-1Gi"})),
        Reason.INVALID_SPEC,
        "spec.resources.limits.memory '-1Gi' is negative; use a quantity",
        id="negative",
    ),
    pytest.param(
        with_spec(resources=Resources(requests={"memory": "2Gi"}, limits={"memory": "1024Mi"})),
        Reason.INVALID_SPEC,
        "spec.resources.requests.memory 2Gi is more than its limit of 1024Mi; lower it, or raise",
        id="above its limit",
    ),
    pytest.param(
        with_spec(resources=Resources(limits={"nvidia.com/gpu": 1})),
        Reason.INVALID_SPEC,
        "spec.gpu.count",
        id="gpu",
    ),
    pytest.param(with_spec(cache=Cache(size="big")), Reason.INVALID_SPEC, "spec.cache.size", id="size"),
]


@pytest.mark.parametrize(("model", "reason", "says"), REFUSED)
def test_a_refusal_says_what_to_change(model: Model, reason: str, says: str) -> None:
    """One reason for machines, one message for people."""
    condition = accepted(model)
    assert (condition.status, condition.reason) == (conditions.FALSE, reason)
    assert says in condition.message


def test_every_reason_for_a_refusal_is_final() -> None:
    """Waiting changes no spec: the phase is Failed."""
    assert {case.values[1] for case in REFUSED} <= reasons.FINAL


def test_several_problems_are_named_together() -> None:
    """One round of corrections, not one a problem."""
    message = accepted(with_spec(backend="x", source="y")).message
    assert "spec.backend" in message
    assert "spec.source" in message


UNUSED = [
    pytest.param(with_spec(cache=Cache(strategy="SharedPVC")), "spec.cache (pvc://", id="cache of a PVC"),
    pytest.param(
        with_spec(source="HF://a/b", cache=Cache(strategy="None", pvc_name="x")),
        "spec.cache.pvcName",
        id="pvcName",
    ),
    pytest.param(with_spec(gpu=Gpu(priority=5)), "spec.gpu.priority", id="priority"),
    pytest.param(with_spec(config={"hfRevision": "main"}), "spec.config.hfRevision", id="revision"),
    pytest.param(
        with_spec(serverless=Serverless(enabled=False, idle_timeout="1m")), "idleTimeout", id="idleTimeout"
    ),
    pytest.param(with_spec(litellm=LiteLLM(enabled=False, aliases=("x",))), "litellm.aliases", id="aliases"),
]


@pytest.mark.parametrize(("model", "says"), UNUSED)
def test_what_has_no_effect_is_named(model: Model, says: str) -> None:
    """Accepted, but not silently."""
    assert any(says in text for text in without_effect(model.spec))


def test_a_plain_model_is_accepted_without_a_remark() -> None:
    """The usual case."""
    condition = accepted(a_model())
    assert (condition.status, condition.message) == (conditions.TRUE, "the spec is valid")


def test_an_accepted_model_names_what_has_no_effect() -> None:
    """In its message."""
    assert accepted(with_spec(gpu=Gpu(vendor="nvidia", priority=5))).message == (
        "the spec is valid; without effect: spec.gpu.priority (only members of a shared group compete)"
    )


def test_an_accepted_model_says_which_arguments_were_not_checked() -> None:
    """A start that fails by them is then no riddle."""
    message = accepted(with_spec(config={"extraArgs": ["--seed", "7"]})).message
    assert message.startswith(
        "the spec is valid; unchecked: spec.config.extraArgs (2 arguments) goes to llamacpp"
    )


@given(
    st.text(max_size=20),
    st.text(max_size=40),
    st.dictionaries(
        st.text(max_size=8), st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=3)
    ),
)
def test_any_spec_that_the_api_server_stored_gets_an_answer(
    backend: str, source: str, config: dict[str, object]
) -> None:
    """Total: a hostile spec gets a message, never an exception."""
    for spec in ({"backend": backend, "source": source}, {"config": config}):
        condition = accepted(with_spec(**spec))
        assert condition.status in (conditions.TRUE, conditions.FALSE)
        assert len(condition.message) <= 1024
