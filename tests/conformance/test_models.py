"""Models by their CRD: defaults, pruning, field validation, and the messages of refusals."""

import pytest

from tests.apiserver import ApiServer, Object
from tests.conformance.objects import MAPS, MODELS, a_map, a_model, path, set_status


def test_defaults_are_filled_in(server: ApiServer, space: str) -> None:
    """Always for serverless, for gpu only if it is set, and never gpu.count."""
    plain = server.create(path(MODELS, space), a_model("plain"))["spec"]
    on_gpu = server.create(path(MODELS, space), a_model("gpu", gpu={}))["spec"]
    assert plain["serverless"] == {"enabled": True, "idleTimeout": "5m", "coldStartTimeout": "60s"}
    assert ("gpu" in plain, on_gpu["gpu"]) == (False, {"vendor": "auto", "priority": 100})


def test_a_field_that_a_patch_removes_gets_its_default(server: ApiServer, space: str) -> None:
    """A merge patch with null."""
    server.create(path(MODELS, space), a_model(gpu={"priority": 7}))
    model = server.patch(path(MODELS, space, "smollm2"), {"spec": {"gpu": {"priority": None}}}).json
    assert model["spec"]["gpu"]["priority"] == 100


def test_unknown_fields_are_pruned_with_a_warning(server: ApiServer, space: str) -> None:
    """Except in `config`, which preserves unknown fields."""
    body = a_model(flavour="sweet", config={"anything": {"goes": [1]}}) | {"more": 1}
    reply = server.ask("POST", path(MODELS, space), body)
    assert (
        reply.headers["warning"]
        == '299 - "unknown field "more""'.replace('""', '\\""', 1).replace('field "more', 'field \\"more')
        or "unknown field" in reply.headers["warning"]
    )
    assert ("flavour" in reply.json["spec"], "more" in reply.json) == (False, False)
    assert reply.json["spec"]["config"] == {"anything": {"goes": [1]}}


def test_unknown_fields_can_be_ignored(server: ApiServer, space: str) -> None:
    """Without a warning."""
    reply = server.ask("POST", path(MODELS, space), a_model(flavour="sweet"), fieldValidation="Ignore")
    assert (reply.code, "warning" in reply.headers) == (201, False)


@pytest.mark.parametrize(
    ("kind", "body", "fields"),
    [
        (MODELS, a_model(flavour="sweet") | {"more": 1}, ["more", "spec.flavour"]),
        (MAPS, a_map("m") | {"flavour": "sweet"}, ["flavour"]),
    ],
    ids=["a Model", "a ConfigMap"],
)
def test_unknown_fields_are_refused_by_strict_validation(
    server: ApiServer, space: str, kind: tuple[str, str], body: Object, fields: list[str]
) -> None:
    """All of them are named."""
    errors = ", ".join(f'unknown field "{field}"' for field in fields)
    reply = server.ask("POST", path(kind, space), body, fieldValidation="Strict")
    assert (reply.code, reply.json["reason"], f"strict decoding error: {errors}" in reply.message) == (
        400,
        "BadRequest",
        True,
    )


def test_strict_validation_applies_to_patches_and_applies(server: ApiServer, space: str) -> None:
    """A merge patch with an unknown field is unprocessable, an apply is refused by its schema."""
    server.create(path(MODELS, space), a_model())
    one = path(MODELS, space, "smollm2")
    patched = server.patch(one, {"spec": {"flavour": "sweet"}}, fieldValidation="Strict")
    assert (patched.code, 'strict decoding error: unknown field "spec.flavour"' in patched.message) == (
        422,
        True,
    )
    applied = server.apply(one, a_model(flavour="sweet"), "one", fieldValidation="Strict", force=True)
    assert (applied.code, "flavour" in applied.message) == (400, True) or applied.code == 500, applied.message


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        (
            {"backend": "llama"},
            "spec.backend",
            'Unsupported value: "llama": supported values: "comfyui", "diffusers"',
        ),
        ({"gpu": {"priority": 1001}}, "spec.gpu.priority", "should be less than or equal to 1000"),
        ({"gpu": {"count": 0}}, "spec.gpu.count", "should be greater than or equal to 1"),
        ({"gpu": {"count": "1"}}, "spec.gpu.count", 'must be of type integer: "string"'),
        ({"gpu": {"shared": ""}}, "spec.gpu.shared", "should be at least 1 chars long"),
        ({"gpu": {"shared": "g" * 64}}, "spec.gpu.shared", "Too long: may not be more than 63"),
        ({"serviceLabels": ["a"] * 2}, "spec.serviceLabels[1]", 'Duplicate value: "a"'),
        ({"serviceLabels": [str(n) for n in range(11)]}, "spec.serviceLabels", "must have at most 10 items"),
        ({"cache": {"size": "lots"}}, "spec.cache.size", "should match"),
        ({"config": []}, "spec.config", 'must be of type object: "array"'),
    ],
)
def test_a_value_out_of_bounds_is_refused_at_its_field(
    server: ApiServer, space: str, spec: Object, field: str, words: str
) -> None:
    """422, with the message of a real API server."""
    reply = server.ask("POST", path(MODELS, space), a_model(**spec))
    messages = [message for where, _, message in reply.causes if where == field]
    assert (reply.code, [words in message for message in messages]) == (422, [True]), reply.message


def test_a_value_that_a_rule_cannot_be_evaluated_for_has_two_causes(server: ApiServer, space: str) -> None:
    """Its pattern, and the conversion to a duration."""
    reply = server.ask("POST", path(MODELS, space), a_model(serverless={"idleTimeout": "1 day"}))
    rule = "must be between 1s and 168h; write it like 90s, 5m or 1h30m"
    conversion = "type conversion error from 'string' to 'google.protobuf.Duration'"
    assert [message for _, _, message in reply.causes] == [
        "Invalid value: \"1 day\": spec.serverless.idleTimeout in body should match '^([0-9]+(ms|s|m|h))+$'",
        f'Invalid value: "string": {conversion} evaluating rule: {rule}',
    ]


def test_missing_required_fields_are_named(server: ApiServer, space: str) -> None:
    """Every missing required field, and that the rules could not be evaluated."""
    reply = server.ask("POST", path(MODELS, space), {**a_model(), "spec": {}})
    assert [(field, reason) for field, reason, _ in reply.causes] == [
        ("<nil>", "FieldValueInvalid"),
        ("spec.backend", "FieldValueRequired"),
        ("spec.source", "FieldValueRequired"),
    ]


def test_a_status_is_validated_too(server: ApiServer, space: str) -> None:
    """By its own schema."""
    server.create(path(MODELS, space), a_model())
    reply = server.patch(path(MODELS, space, "smollm2", "status"), {"status": {"phase": "Nonsense"}})
    assert (reply.code, [field for field, _, _ in reply.causes]) == (422, ["<nil>", "status.phase"])


def test_a_type_of_condition_is_allowed_once(server: ApiServer, space: str) -> None:
    """A list map has no two items with the same key."""
    server.create(path(MODELS, space), a_model())
    condition = {"type": "Ready", "status": "True", "reason": "Up", "message": ""}
    condition["lastTransitionTime"] = "2026-11-24T12:00:00Z"
    body = {"status": {"conditions": [condition, condition]}}
    reply = server.patch(path(MODELS, space, "smollm2", "status"), body)
    assert (reply.code, [(field, reason) for field, reason, _ in reply.causes]) == (
        422,
        [("status.conditions[1]", "FieldValueDuplicate")],
    )


def test_a_refused_change_writes_nothing(server: ApiServer, space: str) -> None:
    """Not even its valid fields."""
    server.create(path(MODELS, space), a_model())
    one = path(MODELS, space, "smollm2")
    set_status(server, space, phase="Ready")
    before = server.get(one)
    reply = server.patch(one, {"spec": {"source": "s3://a/b", "nodeSelector": {"a": "b"}}})
    assert (reply.code, server.get(one)) == (422, before)
