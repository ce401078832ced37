"""Backends: every engine is found, refuses what it cannot serve by name, and becomes the same manifest each time."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer import backends
from flexinfer.api.headers import Headers
from flexinfer.api.model import Gpu, ModelSpec
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.podspec import Resources
from flexinfer.api.reasons import Reason
from flexinfer.backends import Serving
from flexinfer.backends.generations import GENERATIONS as GPU_GENERATIONS
from flexinfer.backends.memory import estimate
from flexinfer.launcher.manifests import LaunchSettings, engine_pod, template
from flexinfer.launcher.start_settings import settings_of
from flexinfer.runtime.settings import Settings
from tests.builders import a_model, devices_of

GOLDEN = Path(__file__).parent / "golden"
NVIDIA = Gpu(vendor="nvidia", count=2)
AMD = Gpu(vendor="amd")
PLACED = {
    "cpu": Placement(node="a"),
    "nvidia": Placement(
        node="a", vendor="nvidia", architecture="sm_86", devices=placed_devices(["GPU-1", "GPU-2"])
    ),
    "amd": Placement(node="b", vendor="amd", architecture="gfx1100", devices=placed_devices(["GPU-3"])),
}
CASES: dict[str, dict[str, Any]] = {
    "llamacpp-cpu-claim": {"source": "pvc://models/smollm2.gguf"},
    "llamacpp-nvidia-hub": {
        "source": "HF://org/repo-GGUF",
        "gpu": NVIDIA,
        "config": {"ggufFile": "q4.gguf", "mmproj": "mm.gguf", "contextSize": 8192, "flashAttention": True},
    },
    "llamacpp-amd-file": {"source": "file:///weights/m.gguf", "gpu": AMD, "config": {"parallel": 1}},
    "ollama-cpu": {"backend": "ollama", "source": "ollama://llama3:8b"},
    "ollama-amd": {
        "backend": "ollama",
        "source": "ollama://llama3",
        "gpu": AMD,
        "config": {"hipVisibleDevices": "0"},
    },
    "vllm-nvidia-hub": {
        "backend": "vllm",
        "source": "HF://org/repo",
        "gpu": NVIDIA,
        "config": {"maxModelLen": 8192, "gpuMemoryUtilization": 0.9, "enableToolCalling": True},
    },
    "vllm-amd-claim": {"backend": "vllm", "source": "pvc://models/org/repo", "gpu": AMD},
}


@pytest.mark.parametrize("name", CASES)
def test_a_model_becomes_the_pod_that_is_written_down(name: str) -> None:
    """A changed manifest is a changed file, which shows in the review."""
    changes = dict(CASES[name])
    gpu = changes.get("gpu")
    vendor = gpu.vendor if gpu else "cpu"
    model = a_model("m", placement=PLACED[vendor], **changes)
    backend = backends.find(model.spec.backend)
    assert backend is not None
    assert backend.refuse(model.spec) == ()
    made = template(model, settings_of(Settings()))
    assert made is not None
    found = engine_pod(model, 3, made)
    assert json.loads((GOLDEN / f"{name}.json").read_text()) == found


@pytest.mark.parametrize("name", backends.names())
def test_every_backend_is_found_by_its_name_and_aliases_in_any_case(name: str) -> None:
    """A CRD older than this program may let other spellings through: `LLaMA.cpp` is llamacpp."""
    backend = backends.find(name)
    assert backend is not None
    assert all(backends.find(f" {alias.upper()} ") is backend for alias in (name, *backend.aliases))


@pytest.mark.parametrize("name", backends.names())
def test_every_backend_says_what_it_needs(name: str) -> None:
    """A port, an image for each vendor, and where it is asked."""
    backend = backends.find(name)
    assert backend is not None
    assert 0 < backend.port < 65536
    assert backend.health.startswith("/")
    assert all(backend.image(vendor, {}) for vendor in backend.vendors)


@pytest.mark.parametrize("name", backends.names())
@pytest.mark.parametrize("vendor", ["cpu", "nvidia", "amd"])
def test_arguments_bind_to_the_pod_and_are_texts(name: str, vendor: str) -> None:
    """An engine listens on its own Pod's address, never on all of the machine's."""
    backend = backends.find(name)
    assert backend is not None
    spec = ModelSpec(backend=name, source=f"{backend.schemes[0]}://x/y")
    serving = Serving(name="m", spec=spec, path="/models/m", vendor=vendor, devices=1)
    texts = [*backend.command_line(serving), *backend.environment(serving).values()]
    assert all(isinstance(text, str) for text in texts)
    assert any("$(POD_IP)" in text for text in texts)
    assert not any("0.0.0.0" in text for text in texts)


def test_an_unknown_backend_is_none() -> None:
    """No error: the watcher refuses the spec."""
    assert backends.find("tensorrt") is None
    assert backends.canonical("tensorrt") == "tensorrt"


def test_an_alias_stands_for_the_name_of_its_backend() -> None:
    """Every alias of every backend, and none of them names two."""
    spellings = {
        name: backends.canonical(name) for b in backends.all_backends() for name in (b.name, *b.aliases)
    }
    assert tuple(sorted(spellings)) == tuple(sorted(backends.spellings()))
    assert set(spellings.values()) == set(backends.names())


def doubts(name: str, vendor: str, architecture: str, **spec: Any) -> tuple[list[str], list[str]]:
    """Return why a backend cannot run a Model on an architecture, and why it may fail there."""
    backend = backends.find(name)
    assert backend is not None
    model = a_model("m", backend=name, **spec)
    cannot, may_fail = (
        [r.reason for r in rules if r.covers(vendor, architecture) and r.applies("m", model.spec)]
        for rules in (backend.unsupported_architectures, backend.experimental_architectures)
    )
    return cannot, may_fail


REFUSED, EXPERIMENTAL, SILENT = "refused", "experimental", "silent"
GENERATIONS: dict[str, dict[str, str]] = {
    "vllm": {
        "sm_52": REFUSED, "sm_61": REFUSED, "sm_70": EXPERIMENTAL, "sm_75": SILENT, "sm_86": SILENT, "sm_120": SILENT,
        "gfx906": EXPERIMENTAL, "gfx90a": SILENT, "gfx942": SILENT, "gfx1030": EXPERIMENTAL, "gfx1100": SILENT,
    },
    "diffusers": {
        "sm_52": REFUSED, "sm_61": EXPERIMENTAL, "sm_70": EXPERIMENTAL, "sm_75": SILENT, "sm_86": SILENT, "sm_120": SILENT,
        "gfx906": EXPERIMENTAL, "gfx90a": SILENT, "gfx942": SILENT, "gfx1030": SILENT, "gfx1100": SILENT,
    },
    "llamacpp": {"sm_52": SILENT, "sm_61": SILENT, "gfx906": SILENT, "gfx1100": SILENT, "": SILENT},
}  # fmt: skip
GENERATIONS["vllm-omni"] = GENERATIONS["vllm"]


@pytest.mark.parametrize("name", GENERATIONS)
def test_a_backend_names_the_gpus_that_it_cannot_run_on_and_those_that_it_may_fail_on(name: str) -> None:
    """By vendor and prefix; what is in neither list is not mentioned."""
    for architecture, expected in GENERATIONS[name].items():
        vendor = "amd" if architecture.startswith("gfx") else "nvidia"
        cannot, may_fail = doubts(name, vendor, architecture)
        actual = REFUSED if cannot else EXPERIMENTAL if may_fail else SILENT
        assert (architecture, actual) == (architecture, expected)


def test_every_rule_and_every_generation_has_its_source() -> None:
    """A page on the web; and a rule covers a generation of the table, or a part of one."""
    for generation in GPU_GENERATIONS:
        assert generation.source.startswith("https://")
    for backend in backends.all_backends():
        for rule in (*backend.unsupported_architectures, *backend.experimental_architectures):
            assert rule.reason and rule.source.startswith("https://")
            assert any(rule.covers(g.vendor, g.prefix) for g in GPU_GENERATIONS)


@pytest.mark.parametrize(
    ("config", "source", "cause"),
    [
        ({}, "HF://org/model-q4f32_1-MLC", ""),
        ({"jitPolicy": "READONLY"}, "pvc://models/m-q0f32", ""),
        ({"jitPolicy": "ON"}, "pvc://models/m-q0f32", "set spec.config.jitPolicy READONLY"),
        ({}, "file:///weights/m-q0f32", "name it in spec.config.modelLibPath"),
        ({"modelLibPath": "/weights/lib.so"}, "file:///weights/m-q0f32", ""),
        ({}, "HF://org/model-q4f16_1-MLC", "Maxwell computes in FP32 only"),
    ],
)
def test_mlc_needs_a_library_compiled_for_maxwell_and_fp32(config: Any, source: str, cause: str) -> None:
    """It is never compiled there; on other GPUs none of this holds."""
    cannot, _ = doubts("mlc-llm", "nvidia", "sm_52", config=config, source=source)
    assert any(cause in reason for reason in cannot) if cause else cannot == []
    assert doubts("mlc-llm", "nvidia", "sm_86", config=config, source=source) == ([], [])


@pytest.mark.parametrize(
    ("name", "source", "flag"),
    [
        ("vllm", "HF://org/repo", "--tensor-parallel-size 2"),
        ("vllm-omni", "HF://org/repo", "--tensor-parallel-size 2"),
        ("llamacpp", "pvc://models/m.gguf", "--split-mode layer --tensor-split 1,1"),
        ("mlc-llm", "HF://org/repo", "--overrides tensor_parallel_shards=2"),
        ("ollama", "ollama://llama3", "OLLAMA_SCHED_SPREAD=1"),
    ],
)
def test_two_devices_become_the_engines_own_flag(name: str, source: str, flag: str) -> None:
    """And one device does not."""
    backend = backends.find(name)
    assert backend is not None
    texts = []
    for devices in (2, 1):
        model = a_model("m", backend=name, source=source, gpu=Gpu(vendor="nvidia", count=devices))
        assert backend.refuse(model.spec) == ()
        start = Serving(name="m", spec=model.spec, path="/models/m", vendor="nvidia", devices=devices)
        variables = [f"{key}={value}" for key, value in backend.env(start).items()]
        texts.append(" ".join([*backend.args(start), *variables]))
    assert (flag in texts[0], flag.split(maxsplit=1)[0].partition("=")[0] in texts[1]) == (True, False)


@pytest.mark.parametrize("name", ["comfyui", "diffusers"])
def test_an_engine_that_uses_one_gpu_is_refused_two(name: str) -> None:
    """The message says what to set."""
    backend = backends.find(name)
    assert backend is not None
    spec = a_model("m", backend=name, source="HF://org/repo", gpu=Gpu(vendor="nvidia", count=2)).spec
    assert [problem.message for problem in backend.refuse(spec)] == [
        f"spec.gpu.count is 2, but {name} uses at most one GPU; set it to 1"
    ]


def test_mlc_loads_the_library_of_the_model_on_maxwell() -> None:
    """From the volume with the weights, under the Model's name, unless the spec names another."""
    spec = a_model("m", backend="mlc-llm", source="HF://org/repo-q4f32_1", gpu=Gpu(vendor="nvidia")).spec
    backend = backends.find("mlc-llm")
    assert backend is not None
    start = Serving(name="m", spec=spec, path="/models/x", vendor="nvidia", architecture="sm_52", devices=1)
    assert " ".join(backend.args(start)).endswith("--model-lib /models/m/maxwell-lib.so")
    assert backend.env(start)["MLC_JIT_POLICY"] == "READONLY"


def test_the_local_programs_are_those_of_the_backends() -> None:
    """What runs on a machine without containers, and how to install it."""
    programs = backends.local_programs()
    assert {name: program.program for name, program in programs.items()} == {
        "diffusers": "flexinfer-diffusers-server",
        "llamacpp": "llama-server",
        "ollama": "ollama",
        "vllm": "vllm",
    }
    assert programs["llamacpp"].fallback == "flexinfer-llama-server"
    assert all(program.install and program.images and program.paths for program in programs.values())


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        pytest.param({"contexSize": 1}, "did you mean contextSize, an integer", id="typing error"),
        pytest.param({"zzz": 1}, "is not a key of llamacpp", id="unknown"),
        pytest.param({"contextSize": "4096"}, "must be an integer", id="text for a number"),
        pytest.param({"contextSize": True}, "must be an integer", id="switch for a number"),
        pytest.param({"parallel": 0}, "must be an integer of at least 1", id="too small"),
        pytest.param({"jinja": "yes"}, "must be true or false", id="text for a switch"),
        pytest.param({"chatTemplate": "--api-key x"}, "must not begin with `-`", id="a flag smuggled in"),
        pytest.param({"ggufFile": "../../etc/passwd.gguf"}, "without `..`", id="traversal"),
        pytest.param({"ggufFile": "/etc/x.gguf"}, "may not begin with /", id="absolute"),
        pytest.param({"ggufFile": "x.bin"}, "end in .gguf", id="no GGUF"),
        pytest.param({"hfAllowPatterns": [1]}, "must be a list of strings", id="list of numbers"),
    ],
)
def test_a_bad_config_is_refused_by_its_key_with_a_remedy(config: dict[str, Any], sentence: str) -> None:
    """Nothing is dropped in silence (reliability X11)."""
    backend = backends.find("llamacpp")
    assert backend is not None
    problems = backend.refuse(ModelSpec(backend="llamacpp", source="pvc://c/m.gguf", config=config))
    assert [p.reason for p in problems] == [Reason.INVALID_CONFIG]
    assert next(iter(config)) in problems[0].message
    assert sentence in problems[0].message


@pytest.mark.parametrize(
    ("name", "source", "gpu", "reason"),
    [
        pytest.param("vllm", "HF://a/b", None, Reason.UNSUPPORTED_VENDOR, id="no GPU"),
        pytest.param("llamacpp", "ollama://a", None, Reason.UNSUPPORTED_SOURCE, id="wrong scheme"),
        pytest.param("llamacpp", "HF://a/b", None, Reason.INVALID_CONFIG, id="no file picked"),
    ],
)
def test_a_spec_that_cannot_be_served_is_refused(
    name: str, source: str, gpu: Gpu | None, reason: str
) -> None:
    """Each for its own reason."""
    backend = backends.find(name)
    assert backend is not None
    assert [p.reason for p in backend.refuse(ModelSpec(backend=name, source=source, gpu=gpu))] == [reason]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(name=st.sampled_from(backends.names()), data=st.data())
def test_whatever_a_config_holds_it_is_refused_or_becomes_arguments(name: str, data: st.DataObject) -> None:
    """Validation is total, and what passed it never breaks the manifest (reliability X18)."""
    backend = backends.find(name)
    assert backend is not None
    known = st.sampled_from(sorted(backend.config)) if backend.config else st.text()
    config = data.draw(st.dictionaries(known | st.text(), JSON, max_size=4))
    spec = ModelSpec(backend=name, source=f"{backend.schemes[0]}://a/b", gpu=NVIDIA, config=config)
    if backend.refuse(spec):
        return
    serving = Serving(name="m", spec=spec, path="/models/m", vendor="nvidia", devices=2)
    assert all(isinstance(text, str) for text in [*backend.args(serving), *backend.env(serving).values()])
    assert backend.capacity(spec) >= 0
    headers = Headers(weights_mb=1)
    demand = backend.demand(spec, headers) if backend.demand is not None else None
    assert demand is None or estimate(headers, demand).total_mb >= 0


def test_a_setting_takes_the_place_of_an_image() -> None:
    """By vendor first, then for all vendors."""
    backend = backends.find("vllm")
    assert backend is not None
    settings = {"vllm": "mine", "vllm_amd": "mine-rocm"}
    assert [backend.image(v, settings) for v in ("nvidia", "amd")] == ["mine", "mine-rocm"]


def test_the_image_of_an_architecture_comes_before_that_of_its_vendor() -> None:
    """The longest prefix counts; on other architectures nothing changes."""
    backend = backends.find("mlc-llm")
    assert backend is not None
    settings = {
        "mlc_llm_sm_5": "maxwell",
        "mlc_llm_sm_52": "titan",
        "mlc_llm_nvidia": "mine",
        "mlc_llm_gfx906": "mi50",
    }
    expected = {"sm_52": "titan", "sm_50": "maxwell", "sm_86": "mine", "": "mine"}
    assert {a: backend.image("nvidia", settings, a) for a in expected} == expected
    assert backend.image("amd", settings, "gfx906") == "mi50"
    assert backend.image("amd", settings, "gfx1100") == backend.images["amd"]


def test_the_image_of_a_spec_comes_before_all_others() -> None:
    """In its Pod."""
    settings = LaunchSettings(images={"llamacpp": "cluster:1", "llamacpp_cpu": "cluster:2"})
    for image, expected in (("mine:1", "mine:1"), ("", "cluster:2")):
        made = template(a_model("m", image=image), settings)
        assert made is not None
        assert made.spec["containers"][0]["image"] == expected


def test_resources_of_the_user_and_devices_of_the_placement_stand_side_by_side() -> None:
    """The device is requested and limited; what the user asked for stays."""
    model = a_model(gpu=NVIDIA, placement=PLACED["nvidia"])
    asked = Resources(requests={"cpu": "2"}, limits={"memory": "8Gi"})
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, resources=asked))
    made = template(model, LaunchSettings())
    assert made is not None
    assert made.spec["containers"][0]["resources"] == {
        "requests": {"cpu": "2", "nvidia.com/gpu": "2"},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": "2"},
    }


def told(memory: int, total: int, **changes: Any) -> list[str]:
    """Return the arguments of an engine whose Model takes so much memory of each of its devices, in MiB."""
    placement = Placement(
        node="a",
        vendor="nvidia",
        devices=devices_of({"GPU-1": total, "GPU-2": 24000}, memory),
    )
    fields: dict[str, Any] = {
        "backend": "vllm",
        "source": "HF://org/repo",
        "gpu": Gpu(vendor="nvidia", count=2),
    }
    made = template(a_model("m", placement=placement, **(fields | changes)), LaunchSettings())
    assert made is not None
    arguments: list[str] = made.spec["containers"][0]["args"]
    return arguments


def the_share(arguments: list[str]) -> str:
    """Return the share that is on a command line; empty if there is none."""
    flag = "--gpu-memory-utilization"
    return arguments[arguments.index(flag) + 1] if flag in arguments else ""


def test_mlc_is_told_its_share_as_an_override() -> None:
    """Unless the spec states one."""
    assert (
        told(6000, 16000, backend="mlc-llm")[-1] == "tensor_parallel_shards=2;gpu_memory_utilization=0.250000"
    )
    chosen = told(6000, 16000, backend="mlc-llm", config={"gpuMemoryUtilization": 0.8})
    assert chosen[-1] == "gpu_memory_utilization=0.8;tensor_parallel_shards=2"


def test_vllm_is_told_its_share_of_the_smallest_device() -> None:
    """Its footprint there, of all that the device has."""
    assert the_share(told(6000, 16000)) == "0.250000"
    assert the_share(told(6000, 48000)) == "0.125000"


@given(memory=st.integers(1, 2**20), total=st.integers(1, 2**20))
def test_a_share_never_exceeds_the_footprint(memory: int, total: int) -> None:
    """It is rounded down, and is at most the whole device."""
    share = Decimal(the_share(told(memory, total)))
    assert 0 < share <= 1
    assert share * min(total, 24000) <= memory or share == Decimal("0.000001")
    assert share * total <= memory or share == Decimal("0.000001")


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {"gpuMemoryUtilization": 0.9}},
        {"backend": "vllm-omni"},
        {"backend": "llamacpp", "config": {"ggufFile": "m.gguf"}},
    ],
    ids=["chosen", "by stage", "takes what it needs"],
)
def test_an_engine_that_needs_no_share_is_told_none(changes: dict[str, Any]) -> None:
    """Its spec has chosen one, it would take it several times, or it takes what it needs."""
    assert the_share(told(6000, 24000, **changes)) in ("", "0.9")


def test_a_device_or_footprint_that_is_not_known_gives_no_share() -> None:
    """The engine's own default counts."""
    assert the_share(told(0, 24000)) == the_share(told(6000, 0)) == ""


def test_another_footprint_alone_is_no_other_template() -> None:
    """An engine is not restarted for it; the next one gets it."""
    digests = set()
    for memory in (6000, 7000):
        placement = Placement(node="a", vendor="nvidia", devices=devices_of({"GPU-1": 24000}, memory))
        model = a_model(
            "m", backend="vllm", source="HF://org/repo", gpu=Gpu(vendor="nvidia"), placement=placement
        )
        made = template(model, LaunchSettings())
        assert made is not None
        digests.add(made.digest)
    assert len(digests) == 1


@pytest.mark.parametrize("backend", backends.all_backends(), ids=lambda backend: backend.name)
def test_clients_may_call_what_a_backend_declares_and_nothing_else(backend: backends.Backend) -> None:
    """The declared paths are plain ones, and no call reaches what manages the engine."""
    assert backend.api_paths
    for read, patterns in ((False, backend.api_paths), (True, backend.read_paths)):
        for pattern in patterns:
            assert pattern.startswith("/")
            assert not {"*", "?", "//", ".."} & {pattern.removesuffix("/*")}
            assert backend.serves(pattern.replace("/*", "/some/thing"), read=read)
    for managing in (
        "/v1/load_lora_adapter",
        "/slots/0",
        "/props",
        "/api/pull",
        "/free",
        "/shutdown",
        "/",
        "",
    ):
        assert not backend.serves(managing)
        assert not backend.serves(managing, read=True)


def test_a_subtree_begins_below_its_path_and_is_never_left() -> None:
    """ComfyUI's history is one."""
    backend = backends.find("comfyui")
    assert backend is not None
    served = ["/history/1", "/history/1/2"]
    assert [backend.serves(path, read=True) for path in served] == [True, True]
    refused = ["/history/", "/historyx", "/history/../free", "/history/a/../../free", "/view/x"]
    assert [path for path in refused if backend.serves(path, read=True)] == []
