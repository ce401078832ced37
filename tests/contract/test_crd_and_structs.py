"""The CRD and the structs of `contracts.model` say the same: fields, types, what is required, and defaults."""

import types
from typing import Any, Union, get_args, get_origin

import msgspec
import pytest

from flexinfer.api import model
from flexinfer.api.services import BENCH_FIELDS, STATUS_FIELDS
from localkube.apiserver.resources import Object
from tests.contract.test_crd import FULL_STATUS
from tests.definitions import MODELS, a_plain_model, a_registry, the_crd

SCHEMA: Object = the_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
SCALARS = {str: "string", int: "integer", float: "number", bool: "boolean"}
FULL_SPEC: Object = {
    "backend": "vllm",
    "source": "HF://org/model",
    "gpu": {"vendor": "nvidia", "shared": "g", "priority": 7, "count": 2, "vramEstimateMB": 4000},
    "serverless": {"enabled": False, "idleTimeout": "1h", "coldStartTimeout": "5m"},
    "sourceSecretRef": {"name": "mine"},
    "cache": {
        "strategy": "SharedPVC",
        "pvcName": "c",
        "storageClass": "fast",
        "size": "5Gi",
        "accessMode": "ReadWriteMany",
        "reclaimPolicy": "Delete",
    },
    "imagePullSecrets": [{"name": "mine"}],
    "runtimeClassName": "nvidia",
    "config": {"dtype": "float16", "deep": {"er": [1, None, True]}},
    "resources": {"limits": {"memory": "4Gi"}, "requests": {"cpu": 2}},
    "nodeSelector": {"a": "b"},
    "tolerations": [
        {"key": "k", "operator": "Equal", "value": "v", "effect": "NoExecute", "tolerationSeconds": 60},
        {"operator": "Exists"},
    ],
    "litellm": {"enabled": False, "servedModelName": "s", "aliases": ["x"], "copilotAlias": "c"},
    "serviceLabels": ["textgen"],
}


def without_none(kind: Any) -> Any:
    """Return the type of `X | None` without the None."""
    if get_origin(kind) not in (types.UnionType, Union):
        return kind
    rest = [one for one in get_args(kind) if one is not type(None)]
    return rest[0] if len(rest) == 1 else set(rest)


def differences(kind: Any, schema: Object, path: str) -> list[str]:
    """Return where a type and a schema say different things."""
    kind = without_none(kind)
    if kind == {str, int}:
        return [] if schema.get("x-kubernetes-int-or-string") else [f"{path}: should be int-or-string"]
    if kind in SCALARS:
        said = schema.get("type")
        return [] if said == SCALARS[kind] else [f"{path}: {said} should be {SCALARS[kind]}"]
    if get_origin(kind) is tuple:
        return differences(get_args(kind)[0], schema.get("items", {}), f"{path}[]")
    if get_origin(kind) is dict:
        if schema.get("x-kubernetes-preserve-unknown-fields"):
            return []
        return differences(get_args(kind)[1], schema.get("additionalProperties", {}), f"{path}[]")
    return of_struct(kind, schema, path)


def of_struct(kind: Any, schema: Object, path: str) -> list[str]:
    """Compare names, needs and types of a struct's fields, then what lies below."""
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    known = schema.get("properties", {})
    found = [f"{path}.{name}: only in one of the two" for name in sorted(set(fields) ^ set(known))]
    for name, field in fields.items():
        if name in known:
            found += differences(field.type, known[name], f"{path}.{name}")
    needed = {name for name, field in fields.items() if field.required}
    missing = needed - set(schema.get("required", ()))
    return found + [f"{path}.{name}: the struct needs it, the CRD does not" for name in sorted(missing)]


@pytest.mark.parametrize(("part", "kind"), [("spec", model.ModelSpec), ("status", model.ModelStatus)])
def test_fields_and_types_agree(part: str, kind: type) -> None:
    """A field added to one of the two must be added to the other."""
    assert differences(kind, SCHEMA[part], part) == []


@pytest.mark.parametrize(
    ("kind", "path"),
    [(model.Gpu, "gpu"), (model.Serverless, "serverless"), (model.LiteLLM, "litellm")],
)
def test_defaults_agree(kind: type[msgspec.Struct], path: str) -> None:
    """What the CRD fills in is what the struct assumes."""
    said = {
        name: below["default"]
        for name, below in SCHEMA["spec"]["properties"][path]["properties"].items()
        if "default" in below
    }
    fields = {field.encode_name: field.default for field in msgspec.structs.fields(kind)}
    assert said == {name: fields[name] for name in said}


@pytest.mark.parametrize("spec", [{}, FULL_SPEC, {"gpu": {}}, {"litellm": {}, "cache": {}, "resources": {}}])
def test_an_admitted_model_is_read_and_written_without_loss(spec: Object) -> None:
    """Admit, decode, encode, admit: nothing changes any more."""
    stored = a_registry().admit(MODELS, a_plain_model(**spec), None, validation="Strict").obj
    stored = a_registry().admit(MODELS, stored | {"status": FULL_STATUS}, stored, validation="Strict").obj
    read = msgspec.convert(stored, model.Model)
    written = (
        a_registry()
        .admit(MODELS, msgspec.json.decode(msgspec.json.encode(read)), stored, validation="Strict")
        .obj
    )
    assert msgspec.convert(written, model.Model) == read


def test_every_status_field_has_an_owner() -> None:
    """DESIGN 5: one writer a field; conditions have six."""
    owned = {field for fields in STATUS_FIELDS.values() for field in fields}
    assert not owned & set(BENCH_FIELDS)
    assert owned | {"conditions", *BENCH_FIELDS} == set(SCHEMA["status"]["properties"])
