"""Arguments: every key becomes what is written down, no value leaves its argument, and what would take the engine over is refused."""

import difflib
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer import backends
from flexinfer.api.model import Gpu, Model, ModelSpec
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.podspec import EnvVar, EnvVarSource, KeyReference, Resources
from flexinfer.api.reasons import Reason
from flexinfer.backends import Backend, options
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.local.llama import parse
from localkube.kubelet.variable_expansion import expand
from tests.builders import a_model
from tests.unit.backends.keys import KEYS, NEEDED, a_spec, a_start

FLAGS = Path(__file__).parent / "flags"
LISTED = {
    "comfyui": "comfyui",
    "llamacpp": "llama-server",
    "mlc-llm": "mlc-llm",
    "vllm": "vllm",
    "vllm-omni": "vllm-omni",
}
"""Backend -> the file with the flags of its engine, whose first line names the engine's version."""


def the(name: str) -> Backend:
    """Return a backend that exists."""
    backend = backends.find(name)
    assert backend is not None
    return backend


def flags_of(name: str) -> set[str]:
    """Return the flags that a backend's engine has."""
    lines = (FLAGS / f"{LISTED[name]}.txt").read_text().splitlines()
    return {"--help", "-h"} | {line for line in lines if line.startswith("-")}


def added(before: list[str], after: list[str]) -> str:
    """Return the arguments that the second command line has in place of parts of the first, or between them."""
    changes = difflib.SequenceMatcher(a=before, b=after, autojunk=False).get_opcodes()
    return " ".join(
        after[i] for kind, _, _, low, high in changes if kind != "equal" for i in range(low, high)
    )


@pytest.mark.parametrize("name", backends.names())
def test_every_key_has_its_line_in_the_table(name: str) -> None:
    """A key without one is not done."""
    assert set(the(name).keys) - {"customNodesPath"} == set(KEYS[name])


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
def test_a_key_becomes_the_arguments_and_variables_that_are_written_down(name: str, key: str) -> None:
    """Exactly these, beside those of a spec without it."""
    value, arguments, variables = KEYS[name][key]
    backend = the(name)
    needed = NEEDED.get(key, {})
    spec = a_spec(name, **needed | {"config": needed.get("config", {}) | {key: value}})
    assert backend.refuse(spec) == ()
    bare, start = a_start(a_spec(name, **needed)), a_start(spec)
    assert added(backend.command_line(bare), backend.command_line(start)) == arguments
    before = backend.environment(bare)
    changed = {k: v for k, v in backend.environment(start).items() if before.get(k) != v}
    assert " ".join(f"{k}={v}" for k, v in changed.items()) == variables


@pytest.mark.parametrize("name", LISTED)
def test_every_flag_of_a_command_line_is_one_of_the_engine(name: str) -> None:
    """As its own parser lists them; the file says of which version."""
    known = flags_of(name)
    config = {k: v for k, (v, _, _) in KEYS[name].items() if k not in ("extraArgs", "modelFile")}
    for vendor, devices in (("nvidia", 1), ("nvidia", 2), ("amd", 1)):
        start = a_start(a_spec(name, config=config), vendor=vendor, devices=devices, memory_share="0.5")
        used = {text for text in the(name).command_line(start) if text.startswith("--")}
        assert used - known == set()
    named = [
        flag for key in the(name).config.values() for flag in (key.flag, key.off) if flag.startswith("--")
    ]
    assert set(named) - known == set()


@pytest.mark.parametrize("vendor", ["cpu", "nvidia"])
def test_the_command_line_of_llamacpp_is_read_by_the_program_that_runs_here(vendor: str) -> None:
    """Every key at once; the program's own parser ends the test where it knows a flag or a value not."""
    config = {k: v for k, (v, _, _) in KEYS["llamacpp"].items() if k not in ("extraArgs", "modelFile")}
    start = a_start(a_spec("llamacpp", config=config), vendor=vendor, threads=2)
    line = the("llamacpp").command_line(start)
    assert len(parse([text.replace("$(POD_IP)", "127.0.0.1") for text in line])) > 20


def test_comfyui_reads_its_models_from_a_file_of_paths() -> None:
    """A folder of one kind, or a folder with one for each kind; custom nodes beside them."""
    backend = the("comfyui")
    spec = a_spec("comfyui", config={"customNodesPath": "/nodes"})
    script, _, text, *line = backend.command_line(a_start(spec, path="/models/comfyui/checkpoints"))
    assert json.loads(text)["flexinfer"] == {
        "base_path": "/models/comfyui",
        "checkpoints": "checkpoints",
        "custom_nodes": "/nodes",
    }
    whole = json.loads(backend.command_line(a_start(spec, path="/models/comfyui"))[2])["flexinfer"]
    assert (whole["base_path"], whole["loras"]) == ("/models/comfyui", "loras")
    path = line[line.index("--extra-model-paths-config") + 1]
    assert f"> {path} " in script


NASTY = st.sampled_from(
    [
        "$(POD_IP)",
        "$$(HOME)",
        "$(HOSTNAME) $HOME `id`",
        "a;b && c | d",
        "'\"\\",
        "--host",
        "x y",
        "a=b;c=d",
        "\n--port\n1",
        "é",
        "..",
        "*",
    ]
)
VALUES = st.recursive(
    NASTY | st.text(max_size=12) | st.integers(-9, 9) | st.floats(0, 1) | st.booleans(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NASTY | st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)


def the_container(model: Model) -> dict[str, Any]:
    """Return the engine's container."""
    made = template(model, LaunchSettings())
    assert made is not None
    container: dict[str, Any] = made.spec["containers"][0]
    return container


def started(container: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """Return arguments and variables as the kubelet hands them to the process."""
    values: dict[str, str] = {"POD_IP": "10.0.0.1", "HOSTNAME": "node"}
    for entry in container["env"]:
        values[entry["name"]] = expand(entry.get("value", values.get(entry["name"], "")), values)
    return [expand(argument, values) for argument in container["args"]], values


@given(name=st.sampled_from(backends.names()), data=st.data())
def test_no_value_escapes_its_argument(name: str, data: st.DataObject) -> None:
    """A value that is accepted reaches the engine as one argument or variable, as it was written; the other ones stay as they are."""
    key = data.draw(st.sampled_from(sorted(set(the(name).keys) - {"extraArgs"})))
    value = data.draw(VALUES)
    spec = a_spec(name, config={key: value})
    if the(name).refuse(spec):
        return
    placement = Placement(node="a", vendor="nvidia", architecture="sm_86", devices=placed_devices(["GPU-1"]))
    changes: dict[str, Any] = {
        "backend": name,
        "source": spec.source,
        "gpu": spec.gpu,
        "placement": placement,
    }
    arguments, variables = started(the_container(a_model("m", config={key: value}, **changes)))
    bare_arguments, bare_variables = started(the_container(a_model("m", **changes)))
    written = options.written(value, the(name).keys[key].type)
    new = [text for text in arguments if text not in bare_arguments]
    kept = [text for text in bare_arguments if text not in arguments]
    assert len(arguments) <= len(bare_arguments) + 3 + (len(value) if isinstance(value, list) else 0)
    assert len(kept) <= 1  # the one that the value takes the place of
    for text in new:
        assert (
            text in flags_and_values(name, key)
            or written in text
            or text in map(str, value if isinstance(value, list) else ())
        )
    for variable, text in variables.items():
        assert text == bare_variables.get(variable) or text == written


def flags_and_values(name: str, key: str) -> set[str]:
    """Return what a key adds to a command line besides its value."""
    declared = the(name).keys[key]
    return {*declared.sets, *declared.becomes.split(), "--tool-call-parser", "hermes"}


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize(
    "argument", ["--host", "--host=0.0.0.0", "--port", "--api-key=x", "--help", "-h", "--", "-", "stray"]
)
def test_an_argument_that_takes_the_engine_over_is_refused(name: str, argument: str) -> None:
    """Its address, its keys, what makes it end: each by name, with what to do."""
    if name == "comfyui":  # which names its address otherwise, and has no key
        argument = argument.replace("host", "listen").replace("api-key", "tls-keyfile")
    (problem,) = the(name).refuse(a_spec(name, config={"extraArgs": [argument]}))
    assert problem.reason == Reason.INVALID_CONFIG
    assert argument in problem.message
    assert "remove it" in problem.message or "begin with one" in problem.message


@pytest.mark.parametrize(
    ("name", "argument", "cause"),
    [
        ("vllm", "--middleware", "loads code"),
        ("vllm", "--tool_parser_plugin=/x.py", "loads code"),
        ("vllm", "--logits-processors", "loads code"),
        ("vllm", "--kv-transfer-config.kv_connector", "loads code"),
        ("vllm", "--midd", "write the flag in full"),
        ("vllm", "--max-model-len", "use spec.config.maxModelLen"),
        ("vllm", "-tp", "use spec.config.tensorParallelSize"),
        ("vllm-omni", "--omni", "FlexInfer sets it"),
        ("llamacpp", "-m", "FlexInfer sets it"),
        ("llamacpp", "-c", "use spec.config.contextSize"),
        ("llamacpp", "--agent", "run programs"),
        ("llamacpp", "-hf", "neither fetched nor counted"),
        ("llamacpp", "--gpt-oss-20b-default", "neither fetched nor counted"),
        ("mlc-llm", "--overrides", "FlexInfer sets it"),
        ("mlc-llm", "--dev", "write the flag in full"),
        ("comfyui", "--enable-manager", "loads code"),
    ],
)
def test_a_refused_argument_says_why(name: str, argument: str, cause: str) -> None:
    """And what is in its place, if something does."""
    (problem,) = the(name).refuse(a_spec(name, config={"extraArgs": [argument]}))
    assert cause in problem.message


@pytest.mark.parametrize("name", ["ollama", "diffusers"])
def test_an_engine_without_arguments_is_given_none(name: str) -> None:
    """It is configured by variables."""
    (problem,) = the(name).refuse(a_spec(name, config={"extraArgs": ["--x"]}))
    assert "spec.env" in problem.message


@pytest.mark.parametrize("name", LISTED)
def test_every_denied_flag_exists_and_no_free_one_is_taken_for_it(name: str) -> None:
    """A misspelt denial would deny nothing; an engine's other flags stay open."""
    extra, known = the(name).extra, flags_of(name)
    known |= flags_of("vllm") if name == "vllm-omni" else set()  # it is built on versions of vLLM
    assert extra is not None
    for pattern in extra.denied:
        assert any(fnmatchcase(flag, pattern) for flag in known), pattern
    for spelling in extra.spellings:
        assert spelling in known, spelling
    free = [flag for flag in known if not list(extra.faults([flag], the(name).keys))]
    assert len(free) > len(known) / 3


def test_extra_arguments_stand_last_and_keep_their_order() -> None:
    """One string an argument, whatever it holds."""
    extra = ["--seed", "7", "--logit-bias", "15043 +1; $(id)", "--no-warmup"]
    backend = the("llamacpp")
    spec = a_spec("llamacpp", config={"extraArgs": extra})
    assert backend.refuse(spec) == ()
    assert backend.command_line(a_start(spec))[-5:] == extra


def a_variable(name: str, value: str = "", **changes: Any) -> EnvVar:
    """Return a variable of a spec."""
    return EnvVar(name=name, value=value, **changes)


SECRET = EnvVarSource(secret_key_ref=KeyReference(name="hub", key="token"))


@pytest.mark.parametrize(
    ("name", "variable", "cause"),
    [
        ("ollama", a_variable("OLLAMA_HOST", "0.0.0.0"), "FlexInfer sets it"),
        ("ollama", a_variable("OLLAMA_NUM_PARALLEL", "9"), "spec.config.parallel sets it"),
        ("ollama", a_variable("CUDA_VISIBLE_DEVICES", "0"), "the placement chooses"),
        ("vllm", a_variable("VLLM_API_KEY", "x"), "take the engine"),
        ("vllm", a_variable("POD_IP", "1.2.3.4"), "FlexInfer sets it"),
        ("llamacpp", a_variable("LLAMA_ARG_API_KEY", "x"), "take the engine"),
        ("diffusers", a_variable("MODEL_ID", "x"), "FlexInfer sets it"),
        ("llamacpp", a_variable("a-b", "x"), "letters, digits"),
        ("llamacpp", a_variable("A", "x\ny"), "one printable line"),
        ("llamacpp", a_variable("A", "x", value_from=SECRET), "remove the others"),
        ("llamacpp", a_variable("A", value_from=EnvVarSource()), "remove the others"),
    ],
)
def test_a_variable_that_flexinfer_needs_is_refused_by_name(name: str, variable: EnvVar, cause: str) -> None:
    """The engine's address, its devices, its keys; and what no container could have."""
    (problem,) = the(name).refuse(a_spec(name, env=(variable,)))
    assert problem.reason == Reason.INVALID_SPEC
    assert variable.name in problem.message
    assert cause in problem.message


def test_a_variable_that_stands_twice_is_refused() -> None:
    """Which one counts would be chance."""
    (problem,) = the("llamacpp").refuse(a_spec("llamacpp", env=(a_variable("A", "1"), a_variable("A", "2"))))
    assert "a second time" in problem.message


def test_the_variables_of_a_spec_reach_the_engine_as_they_are() -> None:
    """A value is inert, and one of a Secret is only named."""
    env = (a_variable("GGML_X", "$(POD_IP) $HOME"), a_variable("TOKEN", value_from=SECRET))
    container = the_container(a_model("m", env=env))
    assert started(container)[1]["GGML_X"] == "$(POD_IP) $HOME"
    assert container["env"][-1] == {
        "name": "TOKEN",
        "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}},
    }


def test_what_is_tuned_for_a_gpu_gives_way_to_the_spec() -> None:
    """Only that: the rest is refused."""
    backend = the("vllm")
    start = {"vendor": "amd", "architecture": "gfx1100"}
    tuned = backend.environment(a_start(a_spec("vllm"), **start))
    assert (tuned["HSA_OVERRIDE_GFX_VERSION"], tuned["PYTORCH_ROCM_ARCH"]) == ("11.0.0", "gfx1100")
    spec = a_spec("vllm", env=(a_variable("HSA_OVERRIDE_GFX_VERSION", "11.0.1"),))
    assert backend.refuse(spec) == ()
    assert "HSA_OVERRIDE_GFX_VERSION" not in backend.environment(a_start(spec, **start))


@pytest.mark.parametrize(
    ("architecture", "variables"),
    [
        ("gfx906", {"HSA_ENABLE_SDMA": "0", "HSA_USE_SVM": "0", "PYTORCH_ROCM_ARCH": "gfx906"}),
        ("gfx942", {"PYTORCH_ROCM_ARCH": "gfx942"}),
        ("", {}),
    ],
)
@pytest.mark.parametrize("name", ["vllm", "vllm-omni", "diffusers", "comfyui"])
def test_pytorch_is_told_the_amd_gpu_that_it_runs_on(
    name: str, architecture: str, variables: dict[str, str]
) -> None:
    """What is not known of an architecture is left to ROCm."""
    start = a_start(a_spec(name), vendor="amd", architecture=architecture)
    assert the(name).tuning(start) == variables


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("contextSize", "8k", 'is "8k", a string; it must be an integer of at least 0'),
        ("parallel", 0, "is 0; it must be an integer of at least 1"),
        ("cacheTypeK", "q9", 'is "q9", a string; it must be one of f32, f16'),
        (
            "context_size",
            8192,
            "(8192) is not a key of llamacpp; did you mean contextSize, an integer of at least 0?",
        ),
        ("cachetypek", "f16", "did you mean cacheTypeK, one of f32, f16"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_what_is_expected(key: str, value: Any, sentence: str) -> None:
    """Key, value, type and the nearest key that is known."""
    (problem,) = the("llamacpp").refuse(a_spec("llamacpp", config={key: value}))
    assert problem.reason == Reason.INVALID_CONFIG
    assert problem.message.startswith(f"spec.config.{key} ")
    assert sentence in problem.message


def test_a_share_of_more_than_the_whole_is_refused() -> None:
    """And one that is written as a string."""
    for value, sentence in ((1.5, "at most 1"), ("0.9", "a string")):
        (problem,) = the("vllm").refuse(a_spec("vllm", config={"gpuMemoryUtilization": value}))
        assert sentence in problem.message


@pytest.mark.parametrize(
    ("requests", "limits", "threads"),
    [
        ({}, {}, ""),
        ({"cpu": "2"}, {}, "2"),
        ({"cpu": "1"}, {"cpu": "4"}, "4"),
        ({}, {"cpu": "1500m"}, "1"),
        ({"cpu": "100m"}, {}, "1"),
        ({"cpu": 3}, {}, "3"),
        ({"memory": "8Gi"}, {}, ""),
    ],
)
@pytest.mark.parametrize("name", ["llamacpp", "ollama"])
def test_an_engine_on_the_cpu_has_as_many_threads_as_its_pod_has_cpus(
    name: str, requests: dict[str, str | int], limits: dict[str, str | int], threads: str
) -> None:
    """Its limit, else its request, in whole CPUs; without either the engine's own default counts."""
    resources = Resources(requests=requests, limits=limits)
    source = {"llamacpp": "pvc://c/m.gguf", "ollama": "ollama://llama3:8b"}[name]
    container = the_container(a_model("m", backend=name, source=source, resources=resources))
    variables = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    line = container["args"]
    flag = {"llamacpp": line[line.index("--threads") + 1] if "--threads" in line else ""}
    assert flag.get(name, variables.get("LLAMA_ARG_THREADS", "")) == threads
    assert variables.get("OMP_NUM_THREADS", "") == threads


def test_the_threads_of_a_spec_come_before_those_of_its_pod() -> None:
    """As a key, or as a variable."""
    line = the("llamacpp").command_line(a_start(a_spec("llamacpp", config={"threads": 3}), threads=8))
    assert (line.count("--threads"), line[line.index("--threads") + 1]) == (1, "3")
    spec = a_spec("ollama", env=(a_variable("OMP_NUM_THREADS", "2"),))
    assert "OMP_NUM_THREADS" not in the("ollama").environment(a_start(spec, threads=8))


@pytest.mark.parametrize("name", ["llamacpp", "ollama"])
def test_these_run_on_the_cpu(name: str) -> None:
    """The minimal example of the reference is one of them."""
    source = "pvc://c/m.gguf" if name == "llamacpp" else "ollama://llama3:8b"
    assert the(name).refuse(ModelSpec(backend=name, source=source)) == ()


@pytest.mark.parametrize("name", sorted({*backends.names()} - {"diffusers", "llamacpp", "ollama"}))
@pytest.mark.parametrize("gpu", [None, Gpu(vendor="cpu")])
def test_an_engine_that_does_not_run_on_the_cpu_says_so_and_what_to_add(name: str, gpu: Gpu | None) -> None:
    """At once, before anything is downloaded."""
    problems = the(name).refuse(ModelSpec(backend=name, source="HF://org/model", gpu=gpu))
    assert problems[0].reason == Reason.UNSUPPORTED_VENDOR
    assert "set spec.gpu, such as {vendor: auto}" in problems[0].message
    assert "llamacpp or ollama" in problems[0].message


def test_images_are_drawn_on_the_device_that_was_placed() -> None:
    """Never on the CPU in silence: it would take hours. PyTorch calls AMD's GPUs `cuda` too."""
    spec = a_spec("diffusers")
    devices = {
        vendor: the("diffusers").env(a_start(spec, vendor=vendor))["DEVICE"]
        for vendor in ("cpu", "nvidia", "amd")
    }
    assert devices == {"cpu": "cpu", "nvidia": "cuda", "amd": "cuda"}


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"quantization": "nf4"}, "quantization is nf4, but the Model has no GPU, and diffusers quantises"),
        (
            {"cpuOffload": True},
            "cpuOffload is true, but the Model has no GPU, and everything is in the CPU's",
        ),
    ],
)
def test_what_of_images_needs_a_gpu_is_refused_without_one(config: dict[str, Any], said: str) -> None:
    """Before anything is downloaded, with what to do; what is switched off needs nothing."""
    for gpu in (None, Gpu(vendor="cpu")):
        (problem,) = the("diffusers").refuse(a_spec("diffusers", gpu=gpu, config=config))
        assert problem.reason == Reason.INVALID_CONFIG
        assert problem.message.startswith(f"spec.config.{said}")
        assert problem.message.endswith("; remove it, or set spec.gpu, such as {vendor: auto}")
    assert the("diffusers").refuse(a_spec("diffusers", gpu=None, config={"cpuOffload": False})) == ()
    for vendor in ("auto", "nvidia", "amd"):
        assert the("diffusers").refuse(a_spec("diffusers", gpu=Gpu(vendor=vendor), config=config)) == ()


@pytest.mark.parametrize("config", [{}, {"quantization": "int8"}])
def test_a_type_to_compute_in_needs_weights_that_are_computed_in_it(config: dict[str, Any]) -> None:
    """It would have no effect."""
    (problem,) = the("diffusers").refuse(a_spec("diffusers", config=config | {"computeDtype": "float16"}))
    assert problem.message == (
        "spec.config.computeDtype is float16, but only weights quantised to nf4 are computed in it; "
        "remove it, or set spec.config.quantization to nf4"
    )


def test_a_warm_up_that_is_no_size_is_refused() -> None:
    """Before anything is downloaded."""
    (problem,) = the("diffusers").refuse(a_spec("diffusers", config={"warmupResolutions": "512x512, large"}))
    assert problem.message == (
        'spec.config.warmupResolutions has " large"; a size is WIDTHxHEIGHT, such as 512x512'
    )
