"""The CRD is the public API: its columns, defaults, bounds and rules, and that the examples pass."""

import copy
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml

from flexinfer import backends, sources
from flexinfer.api.durations import seconds
from flexinfer.api.groupversion import GROUP, KIND, PLURAL, VERSION
from flexinfer.api.model import Model
from flexinfer.api.phase import Phase
from flexinfer.sources import SourceError
from localkube.apiserver.errors import ApiError
from localkube.apiserver.resources import Object
from tests.cases import CASES
from tests.definitions import LEASES, MODELS, ROOT, a_plain_model, a_registry, the_crd

SERVED: Object = the_crd()["spec"]["versions"][0]
SCHEMA: Object = SERVED["schema"]["openAPIV3Schema"]
NO_MODELS = ("simulated", "traces")
"""Folders of examples that hold something else than Models."""
EXAMPLES = sorted(p for p in (ROOT / "examples").rglob("*.yaml") if p.parent.name not in NO_MODELS)
NO_PROSE = {"metadata", "metadata.name"}  # Kubernetes allows none there


FULL_STATUS: Object = {
    "phase": "Ready",
    "observedGeneration": 3,
    "message": "It answers.",
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "Ready",
            "message": "",
            "lastTransitionTime": "2026-11-01T00:00:00Z",
            "observedGeneration": 3,
        }
    ],
    "lastActiveTime": "2026-11-01T00:00:00Z",
    "sharedGroup": {
        "group": "homelab-gpu",
        "state": "Holding",
        "turn": 7,
        "position": 0,
        "holders": ["llama"],
        "since": "2026-11-01T00:00:00Z",
        "expectedTime": "2026-11-01T00:00:12Z",
    },
    "placement": {
        "node": "a",
        "devices": [{"uuid": "GPU-1", "memoryMB": 6500, "totalMB": 24564}],
        "vendor": "nvidia",
        "architecture": "sm_89",
        "binding": "DevicePlugin",
        "score": -5,
        "footprintMB": 6500,
        "footprintSource": "Measured",
        "measuredAt": "2026-11-01T00:00:00Z",
        "measuredFor": "0123456789abcdef",
        "checkedFor": "2026-11-01T00:00:00Z",
        "reason": "the only node with 6500 MB free",
    },
    "cache": {
        "strategy": "SharedPVC",
        "ready": True,
        "pvcName": "llama-cache",
        "jobName": "llama-fetch",
        "jobPhase": "Succeeded",
        "revision": "main",
        "bytes": 1,
        "totalBytes": 2**40,
        "bytesPerSecond": 10**9,
        "etaSeconds": 0,
        "progress": "37% of 4.9 GB, 2m left",
        "headers": {
            "format": "gguf",
            "architecture": "gemma3",
            "quantization": "Q4_K",
            "weightsMB": 4800,
            "inputMB": 500,
            "layers": 34,
            "embeddingLength": 2560,
            "feedForwardLength": 10240,
            "expertsUsed": 0,
            "heads": 8,
            "kvHeads": 4,
            "keyLength": 256,
            "valueLength": 256,
            "vocabulary": 262144,
            "contextLength": 131072,
            "kvBytesPerToken": 20480,
            "slidingWindow": 1024,
            "slidingKvBytesPerToken": 118784,
        },
        "message": "whole",
    },
    "endpoint": "http://flexinfer-proxy.flexinfer-system.svc/model/default/llama/v1",
    "backend": {
        "address": "10.0.0.1:8080",
        "loadingStage": "Ready",
        "loadSeconds": 2.5,
        "restarts": 0,
        "turn": 7,
        "podUID": "6f1a",
    },
}


def parts(schema: Object, path: str = "") -> Iterator[tuple[str, Object]]:
    """Yield every part of a schema with its path."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from parts(below, f"{path}.{name}".removeprefix("."))
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from parts(schema[name], f"{path}[]")


ALL = dict(parts(SCHEMA))
OURS = {path: part for path, part in ALL.items() if path not in {"", "apiVersion", "kind", *NO_PROSE}}
RULES = [
    (path, rule["rule"], rule["message"])
    for path, part in ALL.items()
    for rule in part.get("x-kubernetes-validations", ())
]


def admitted(name: str = "llama", **spec: Any) -> Object:
    """Return the spec of a Model as it is stored."""
    stored: Object = (
        a_registry().admit(MODELS, a_plain_model(name, **spec), None, validation="Strict").obj["spec"]
    )
    return stored


def refused(name: str = "llama", **spec: Any) -> list[tuple[str, str]]:
    """Return field and message of all that is wrong with a Model."""
    with pytest.raises(ApiError) as error:
        admitted(name, **spec)
    causes = (error.value.details or {}).get("causes", ())
    return [(cause["field"], cause["message"]) for cause in causes if cause["field"] != "<nil>"]


def test_is_the_kind_that_the_code_names() -> None:
    """Group, version, kind, plural, scope, names and subresources."""
    spec = the_crd()["spec"]
    assert (
        spec["group"],
        SERVED["name"],
        spec["names"]["kind"],
        spec["names"]["plural"],
        spec["scope"],
    ) == (
        GROUP,
        VERSION,
        KIND,
        PLURAL,
        "Namespaced",
    )
    assert (spec["names"]["shortNames"], spec["names"]["categories"]) == (["mdl"], ["ai"])
    assert SERVED["subresources"] == {"status": {}}
    assert [field["jsonPath"] for field in SERVED["selectableFields"]] == [
        ".spec.gpu.shared",
        ".spec.backend",
    ]


def test_prints_the_columns_that_are_promised() -> None:
    """The plain ones, and those of `-o wide`."""
    columns = SERVED["additionalPrinterColumns"]
    assert [column["name"].upper() for column in columns if not column.get("priority")] == [
        "PHASE",
        "READY",
        "REASON",
        "BACKEND",
        "NODE",
        "CACHE",
        "AGE",
    ]
    assert [column["name"].upper() for column in columns if column.get("priority")] == [
        "SHARED",
        "PRIORITY",
        "POSITION",
        "EXPECTED",
        "ENDPOINT",
        "SOURCE",
    ]


@pytest.mark.parametrize("path", sorted(set(ALL) - NO_PROSE))
def test_every_field_is_described_in_plain_sentences(path: str) -> None:
    """`kubectl explain` has something to say: it begins with a capital and ends with a full stop."""
    text = ALL[path].get("description", "")
    assert (text[:1].isupper(), text[-1:]) == (True, ".")


@pytest.mark.parametrize("path", sorted(OURS))
def test_everything_is_bounded(path: str) -> None:
    """Texts, lists and maps have a longest, numbers that are asked for a least and a greatest."""
    part = OURS[path]
    if part.get("type") == "string" or part.get("x-kubernetes-int-or-string"):
        assert "maxLength" in part
    if part.get("type") == "array":
        assert "maxItems" in part
    if "additionalProperties" in part or part.get("x-kubernetes-preserve-unknown-fields"):
        assert "maxProperties" in part
    if part.get("type") in ("integer", "number") and path.startswith("spec"):
        assert {"minimum", "maximum"} <= set(part)


@pytest.mark.parametrize(
    "path", [path for path, part in OURS.items() if part.get("x-kubernetes-int-or-string")]
)
def test_quantities_are_kubernetes_own(path: str) -> None:
    """Its pattern, and at most 32 characters."""
    pattern = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
    assert (OURS[path]["pattern"], OURS[path]["maxLength"]) == (pattern, 32)


def test_fills_in_serverless_also_when_it_is_absent() -> None:
    """Enabled, five minutes, sixty seconds; and nothing else."""
    serverless = {"enabled": True, "idleTimeout": "5m", "coldStartTimeout": "60s"}
    assert admitted() == {
        "backend": "llamacpp",
        "source": "pvc://models/smollm2.gguf",
        "serverless": serverless,
    }


def test_fills_in_gpu_only_where_it_is_given_and_never_its_count() -> None:
    """A count by default would break the rule on vendor cpu."""
    assert admitted(gpu={})["gpu"] == {"vendor": "auto", "priority": 100}


def test_completes_a_serverless_that_is_given_in_part() -> None:
    """The other fields keep their defaults."""
    assert admitted(serverless={"idleTimeout": "5s"})["serverless"] == {
        "enabled": True,
        "idleTimeout": "5s",
        "coldStartTimeout": "60s",
    }


@pytest.mark.parametrize("backend", SCHEMA["properties"]["spec"]["properties"]["backend"]["enum"])
def test_every_backend_that_may_be_named_exists(backend: str) -> None:
    """By its name or an alias."""
    assert backends.find(backend) is not None
    assert admitted(backend=backend)["backend"] == backend


def test_every_name_and_alias_of_a_backend_may_be_named() -> None:
    """The enum is generated from the files in backends/."""
    enum = SCHEMA["properties"]["spec"]["properties"]["backend"]["enum"]
    spellings = [name for b in backends.all_backends() for name in (b.name, *b.aliases)]
    assert sorted(enum) == sorted(spellings), "crds/models.yaml is stale: run `make generate`"


SOURCES = [
    "HF://org/model",
    "HF://mlc-ai/Qwen3-8B-q4f16_1-MLC",
    "HF://a.b/c_d-e.f",
    "ollama://llama3:8b",
    "ollama://llama3",
    "ollama://library/llama3:8b-instruct-q4_K_M",
    "ollama://hf.co/org/model:Q4_K_M",
    "ollama://registry.ollama.ai/library/llama3:8b",
    "file:///models/a.gguf",
    "file:///a/b/c.d/e",
    "file:///modèle/größe",
    "file:///models/...hidden",
    "pvc://models/smollm2.gguf",
    "pvc://model-storage/comfyui/checkpoints",
    "pvc://a.b/c",
]
BAD_SOURCES = [
    "",
    "llama3",
    "hf://org/model",
    "HF:/org/model",
    "HF://org",
    "HF://org/model/extra",
    "HF://org/../model",
    "HF://../model",
    "HF://org/a..b",
    "HF://org/a--b",
    "HF:///model",
    "HF://org/mo del",
    "s3://bucket/key",
    "ollama://",
    "ollama://:8b",
    "ollama://llama3:",
    "ollama://a//b",
    "ollama://a/../b",
    "ollama://llama3:8b:9b",
    "ollama://169.254.169.254/library/llama3",
    "ollama://registry.example/library/llama3:8b",
    "file://models/a.gguf",
    "file:///",
    "file:////etc/passwd",
    "file:///a/../b",
    "file:///a/..",
    "file:///./a",
    "file:///a//b",
    "file:///a/",
    "file:///a b",
    "file:///a\nb",
    "file:///a\u2028b",
    "file:///a\u202eb",
    "pvc://models",
    "pvc://models/",
    "pvc:///a",
    "pvc://Models/a",
    "pvc://models/../../etc/passwd",
    "pvc://models/a/./b",
    "pvc://../a",
    "pvc://models/a\tb",
    " pvc://models/a",
    "pvc://models/a\n",
    "x" * 1025,
]


@pytest.mark.parametrize("source", SOURCES)
def test_takes_a_source_of_the_four_forms(source: str) -> None:
    """What the CRD takes, the code that reads it takes too."""
    assert admitted(source=source)["source"] == source
    assert not isinstance(sources.parse(source), SourceError)


@pytest.mark.parametrize("source", BAD_SOURCES)
def test_refuses_any_other_source(source: str) -> None:
    """At apply, and at its field."""
    assert {field for field, _ in refused(source=source)} == {"spec.source"}


def test_the_refusal_of_a_source_names_the_four_forms() -> None:
    """So that they need not be looked up."""
    ((_, message),) = refused(source="s3://bucket/key")
    assert all(form in message for form in ("HF://", "ollama://", "file:///", "pvc://"))


def test_every_rule_has_a_case() -> None:
    """A rule without a test here is not done."""
    untested = [message for _, _, message in RULES if not any(part in message for part in CASES)]
    assert untested == []


@pytest.mark.parametrize("part", sorted(CASES))
def test_a_rule_accepts_and_refuses_with_its_message(part: str) -> None:
    """One Model of each kind; every message has a remedy."""
    good, bad = CASES[part]
    admitted(**good)
    assert [message for _, message in refused(**bad) if part in message] != []


@pytest.mark.parametrize(
    "name", ["nvidia.com/gpu", "nvidia.com/mig-1g.5gb", "amd.com/gpu", "gpu.intel.com/i915"]
)
@pytest.mark.parametrize("place", ["limits", "requests"])
def test_gpu_resources_are_refused_in_both_places(name: str, place: str) -> None:
    """They are asked for with spec.gpu."""
    ((field, message),) = refused(resources={place: {name: 1}})
    assert (field, "spec.gpu" in message) == (f"spec.resources.{place}", True)


@pytest.mark.parametrize(
    "value", ["1 day", "5", "-5m", "1.5h", "5d", "", "5m ", "PT5M", "1h" * 9, 300, "9223372036854775807h"]
)
@pytest.mark.parametrize("field", ["idleTimeout", "coldStartTimeout"])
def test_refuses_what_is_no_duration(field: str, value: Any) -> None:
    """`1 day`, which `format: duration` would take, for one."""
    assert {where for where, _ in refused(serverless={field: value})} == {f"spec.serverless.{field}"}


@pytest.mark.parametrize("value", ["1s", "90s", "5m", "1h30m", "1500ms", "1h0m0s"])
def test_takes_durations_that_the_code_reads(value: str) -> None:
    """What the CRD takes, `seconds` reads."""
    assert seconds(admitted(serverless={"idleTimeout": value})["serverless"]["idleTimeout"]) >= 1


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"backend": "llama"}, "spec.backend"),
        ({"config": "text"}, "spec.config"),
        ({"config": [1]}, "spec.config"),
        ({"config": {f"key{i}": i for i in range(65)}}, "spec.config"),
        ({"gpu": {"vendor": "intel"}}, "spec.gpu.vendor"),
        ({"gpu": {"priority": 1001}}, "spec.gpu.priority"),
        ({"gpu": {"priority": -1}}, "spec.gpu.priority"),
        ({"gpu": {"count": 0}}, "spec.gpu.count"),
        ({"gpu": {"count": 9}}, "spec.gpu.count"),
        ({"gpu": {"count": "1"}}, "spec.gpu.count"),
        ({"gpu": {"vramEstimateMB": 0}}, "spec.gpu.vramEstimateMB"),
        ({"gpu": {"vramEstimateMB": -1}}, "spec.gpu.vramEstimateMB"),
        ({"gpu": {"vramEstimateMB": 2**63}}, "spec.gpu.vramEstimateMB"),
        ({"gpu": {"shared": "g" * 64}}, "spec.gpu.shared"),
        ({"cache": {"strategy": "Disk"}}, "spec.cache.strategy"),
        ({"cache": {"size": "50 GB"}}, "spec.cache.size"),
        ({"cache": {"size": "1" * 33}}, "spec.cache.size"),
        ({"cache": {"pvcName": "../x"}}, "spec.cache.pvcName"),
        ({"resources": {"limits": {"memory": "lots"}}}, "spec.resources.limits.memory"),
        ({"resources": {"requests": {"cpu": 1.5}}}, "spec.resources.requests.cpu"),
        ({"resources": {"requests": {"memory": "-4Gi"}}}, "spec.resources.requests[memory]"),
        ({"nodeSelector": {"a": "b c"}}, "spec.nodeSelector.a"),
        ({"nodeSelector": {"a": 1}}, "spec.nodeSelector.a"),
        ({"serviceLabels": ["x" * 64]}, "spec.serviceLabels[0]"),
        ({"serviceLabels": ["x"] * 11}, "spec.serviceLabels"),
        ({"litellm": {"aliases": ["a", "a"]}}, "spec.litellm.aliases[1]"),
    ],
)
def test_refuses_bad_input_at_its_field(spec: Object, field: str) -> None:
    """Type, choice, bound or length; among them an estimate of 0 or beyond every number (reliability G22)."""
    assert field in {where for where, _ in refused(**spec)}


def test_the_refusal_of_a_backend_lists_those_that_exist() -> None:
    """So that a typing error is seen at once."""
    ((_, message),) = refused(backend="llama")
    assert message.startswith('Unsupported value: "llama": supported values: "comfyui", "diffusers"')


@pytest.mark.parametrize("name", ["a.b", "A", "a_b", "-a", "a-", "1a", "a" * 41])
def test_refuses_a_name_that_could_not_be_a_service(name: str) -> None:
    """At metadata.name, with the reason why."""
    assert {field for field, _ in refused(name)} == {"metadata.name"}


def test_takes_the_status_that_the_services_write() -> None:
    """Every field of DESIGN 5."""
    old = a_registry().admit(MODELS, a_plain_model(), None).obj
    new = copy.deepcopy(old) | {"status": FULL_STATUS}
    admitted_status = a_registry().admit(MODELS, new, old, validation="Strict", subresource="status")
    assert (admitted_status.obj["status"], admitted_status.warnings) == (FULL_STATUS, ())


@pytest.mark.parametrize("phase", tuple(Phase))
def test_takes_every_phase(phase: str) -> None:
    """The phases of the code and of the CRD are the same."""
    assert phase in SCHEMA["properties"]["status"]["properties"]["phase"]["enum"]


def test_conditions_are_a_list_map() -> None:
    """So that six services can each apply their own."""
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert (conditions["x-kubernetes-list-type"], conditions["x-kubernetes-list-map-keys"]) == (
        "map",
        ["type"],
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_examples_pass(path: Any) -> None:
    """The CRD takes them strictly, and their backend finds nothing wrong."""
    for model in yaml.safe_load_all(path.read_text()):
        if model["kind"] == LEASES.kind:
            a_registry().admit(LEASES, model, None, validation="Strict")
            continue
        a_registry().admit(MODELS, model, None, validation="Strict")
        spec = msgspec.convert(model, Model).spec
        backend = backends.find(spec.backend)
        assert backend is not None
        assert backend.refuse(spec) == ()


def test_the_examples_of_the_reference_exist() -> None:
    """The four that the product promises, and the two of the first steps."""
    assert {str(path.relative_to(ROOT / "examples")) for path in EXAMPLES} >= {
        "model-basic.yaml",
        "model-cpu.yaml",
        "model-shared-gpu.yaml",
        "model-amd-rocm.yaml",
        "model-image-gen.yaml",
        "local/smollm2.yaml",
        "local/smollm2-again.yaml",
    }
