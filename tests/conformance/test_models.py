"""Models as the definition has them: filled in, pruned, checked strictly or not, and refused in words."""

import pytest

from tests.apiserver import ApiServer, Object
from tests.conformance.objects import MAPS, MODELS, a_map, a_model, path, set_status


def test_defaults_are_filled_in(server: ApiServer, space: str) -> None:
    """Serverless always, gpu only where it is given, a count never."""
    plain = server.create(path(MODELS, space), a_model("plain"))["spec"]
    on_gpu = server.create(path(MODELS, space), a_model("gpu", gpu={}))["spec"]
    assert plain["serverless"] == {"enabled": True, "idleTimeout": "5m", "coldStartTimeout": "60s"}
    assert ("gpu" in plain, on_gpu["gpu"]) == (False, {"vendor": "auto", "priority": 100})


def test_a_default_comes_back_where_a_patch_takes_it_away(server: ApiServer, space: str) -> None:
    """Null is what is filled in."""
    server.create(path(MODELS, space), a_model(gpu={"priority": 7}))
    found = server.patch(path(MODELS, space, "smollm2"), {"spec": {"gpu": {"priority": None}}}).json
    assert found["spec"]["gpu"]["priority"] == 100


def test_unknown_fields_are_pruned_with_a_warning(server: ApiServer, space: str) -> None:
    """Unless they lie where everything is kept, as in config."""
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
    """Without a word."""
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
def test_unknown_fields_are_refused_by_strictness(
    server: ApiServer, space: str, kind: tuple[str, str], body: Object, fields: list[str]
) -> None:
    """All of them by name; on creation, in a patch and in an apply."""
    said = ", ".join(f'unknown field "{field}"' for field in fields)
    reply = server.ask("POST", path(kind, space), body, fieldValidation="Strict")
    assert (reply.code, reply.json["reason"], f"strict decoding error: {said}" in reply.message) == (
        400,
        "BadRequest",
        True,
    )


def test_strictness_holds_for_patches_and_applies(server: ApiServer, space: str) -> None:
    """A merge patch that brings an unknown field is unfit, an apply is refused by its schema."""
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
    """422, in a real server's words."""
    reply = server.ask("POST", path(MODELS, space), a_model(**spec))
    found = [message for where, _, message in reply.causes if where == field]
    assert (reply.code, [words in message for message in found]) == (422, [True]), reply.message


def test_a_value_that_a_rule_cannot_be_asked_of_has_two_faults(server: ApiServer, space: str) -> None:
    """Its form, and that no duration can be made of it."""
    reply = server.ask("POST", path(MODELS, space), a_model(serverless={"idleTimeout": "1 day"}))
    rule = "must be between 1s and 168h; write it like 90s, 5m or 1h30m"
    conversion = "type conversion error from 'string' to 'google.protobuf.Duration'"
    assert [message for _, _, message in reply.causes] == [
        "Invalid value: \"1 day\": spec.serverless.idleTimeout in body should match '^([0-9]+(ms|s|m|h))+$'",
        f'Invalid value: "string": {conversion} evaluating rule: {rule}',
    ]


def test_what_is_missing_is_named(server: ApiServer, space: str) -> None:
    """Every required field that is not there, and that the rules could not be asked."""
    reply = server.ask("POST", path(MODELS, space), {**a_model(), "spec": {}})
    assert [(field, reason) for field, reason, _ in reply.causes] == [
        ("<nil>", "FieldValueInvalid"),
        ("spec.backend", "FieldValueRequired"),
        ("spec.source", "FieldValueRequired"),
    ]


def test_a_status_is_checked_too(server: ApiServer, space: str) -> None:
    """By its own schema."""
    server.create(path(MODELS, space), a_model())
    reply = server.patch(path(MODELS, space, "smollm2", "status"), {"status": {"phase": "Asleep"}})
    assert (reply.code, [field for field, _, _ in reply.causes]) == (422, ["<nil>", "status.phase"])


def test_a_condition_stands_once_for_its_type(server: ApiServer, space: str) -> None:
    """A list map has no two of a key."""
    server.create(path(MODELS, space), a_model())
    condition = {"type": "Ready", "status": "True", "reason": "Up", "message": ""}
    condition["lastTransitionTime"] = "2026-11-24T12:00:00Z"
    body = {"status": {"conditions": [condition, condition]}}
    reply = server.patch(path(MODELS, space, "smollm2", "status"), body)
    assert (reply.code, [(field, reason) for field, reason, _ in reply.causes]) == (
        422,
        [("status.conditions[1]", "FieldValueDuplicate")],
    )


def test_what_was_refused_leaves_no_trace(server: ApiServer, space: str) -> None:
    """A change that breaks a rule changes nothing, whatever else it brings."""
    server.create(path(MODELS, space), a_model())
    one = path(MODELS, space, "smollm2")
    set_status(server, space, phase="Ready")
    before = server.get(one)
    reply = server.patch(one, {"spec": {"source": "s3://a/b", "nodeSelector": {"a": "b"}}})
    assert (reply.code, server.get(one)) == (422, before)
