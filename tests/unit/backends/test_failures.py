"""The cause of a failed start in what real engines have written (`failed/`: the engine, its version, and what was wrong), as the Model's user sees it."""

from pathlib import Path

import pytest

from flexinfer import backends
from flexinfer.backends.failures import REMEDIES, Kind, cause
from tests.contract.wording import glued
from tests.unit.launcher.engine_output import condition_of

FAILED = Path(__file__).with_name("failed")
ENGINES = {"llama-server": "llamacpp", "vllm": "vllm", "diffusers": "diffusers"}
DENIED = "can't allocate memory: you tried to allocate 67108864 bytes. Error code 12 (Cannot allocate memory)"
CAUSES = {
    "llama-server-11434.0.0-missing": (
        Kind.MISSING,
        "failed to open GGUF file '/models/none.gguf' (No such file or directory)",
    ),
    "llama-server-11434.0.0-architecture": (Kind.ARCHITECTURE, "unknown model architecture: 'llamx'"),
    "llama-server-11434.0.0-cut": (
        Kind.BROKEN,
        "tensor 'blk.15.attn_output.weight' data is not within the file bounds, model is corrupted or incomplete",
    ),
    "llama-server-11434.0.0-page": (Kind.BROKEN, "invalid magic characters: '<htm', expected 'GGUF'"),
    "llama-server-11434.0.0-memory": (
        Kind.MEMORY,
        "insufficient memory (attempted to allocate 43948.12 MB)",
    ),
    "diffusers-0.42.1-missing": (
        Kind.OTHER,
        "/models/missing/model_index.json does not exist; the source must be the folder of a diffusers pipeline",
    ),
    "diffusers-0.42.1-missing-part": (
        Kind.MISSING,
        "no file named diffusion_pytorch_model.bin found in directory /models/nofile/vae",
    ),
    "diffusers-0.42.1-pipeline": (
        Kind.ARCHITECTURE,
        "module diffusers has no attribute StableLlamxPipeline",
    ),
    "diffusers-0.42.1-class-of-a-part": (Kind.ARCHITECTURE, "`diffusers` has no class `LlamxModel`"),
    "diffusers-0.42.1-cut": (
        Kind.BROKEN,
        "Unable to load weights from checkpoint file for '/models/cut/unet/diffusion_pytorch_model.safetensors'",
    ),
    "diffusers-0.42.1-page": (
        Kind.BROKEN,
        "a file of the weights or of their configuration is broken: Expecting value: line 1 column 1 (char 0)",
    ),
    "diffusers-0.42.1-page-as-weights": (
        Kind.BROKEN,
        (
            "/models/page/unet/diffusion_pytorch_model.safetensors is no safetensors file: its header in JSON is expected after 8 bytes, "
            'and its 23 bytes begin with "<html>not found</html>", a web page'
        ),
    ),
    "diffusers-0.42.1-page-as-config": (
        Kind.BROKEN,
        '/models/conf/tokenizer/tokenizer_config.json is no JSON: its 23 bytes begin with "<html>not found</html>", a web page',
    ),
    "diffusers-0.42.1-memory": (Kind.MEMORY, DENIED),
    "vllm-0.32.0-missing": (Kind.MISSING, "there is no model at /models/missing"),
    "vllm-0.32.0-model-type": (
        Kind.ARCHITECTURE,
        "The checkpoint you are trying to load has model type `llamx` but Transformers does not recognize this architecture",
    ),
    "vllm-0.32.0-architecture": (
        Kind.ARCHITECTURE,
        "the architecture in config.json is not one of those that this vLLM lists",
    ),
    "vllm-0.32.0-cut": (
        Kind.BROKEN,
        "Error while deserializing header: incomplete metadata, file not fully covered",
    ),
    "vllm-0.32.0-memory": (
        Kind.MEMORY,
        "Available memory on node 0 (17.75/23.54 GiB) on kv cache allocation is less than requested memory for kv (20000.0 GiB)",
    ),
    "vllm-0.32.0-cut-log": (Kind.OTHER, ""),
}
"""Name -> kind and cause. The last one is the end of vLLM's log, which does not have it: therefore it writes a termination message."""


@pytest.mark.parametrize("name", CAUSES)
def test_the_cause_of_a_real_failure_is_in_the_condition_with_what_helps(name: str) -> None:
    """State, cause and remedy, in one sentence."""
    backend = backends.find(ENGINES[next(engine for engine in ENGINES if name.startswith(engine))])
    assert backend is not None
    kind, text = CAUSES[name]
    output = (FAILED / f"{name}.txt").read_text()
    seen = cause(backend.failures, output)
    assert (seen.kind, seen.text) == (kind, text)
    helps = backend.less_memory if kind is Kind.MEMORY else REMEDIES.get(kind, "")
    message = condition_of(backend.name, output)
    shown = (text or output.strip().splitlines()[-1]).rstrip(".")
    remedy = f"; {helps}" if helps else ""
    assert message == f"engine ended with exit code 1 (Error: {shown}); restarted 1 time{remedy}"
    assert glued(message) == []


def test_every_record_is_read() -> None:
    """None is left over."""
    assert {file.stem for file in FAILED.iterdir()} == {*CAUSES}


@pytest.mark.parametrize("name", ["llamacpp", "vllm", "diffusers"])
def test_an_engine_that_runs_out_of_memory_by_its_own_words_says_which_keys_lower_it(name: str) -> None:
    """Each key is one of its own."""
    backend = backends.find(name)
    assert backend is not None
    named = backend.less_memory.partition("spec.config.")[2].replace(",", " ").split()
    assert any(failure.kind is Kind.MEMORY for failure in backend.failures)
    assert {word for word in named if word in backend.keys} >= {named[0]}


OUT_OF_GPU_MEMORY = """\
ggml_backend_cuda_buffer_type_alloc_buffer: allocating 15317.02 MiB on device 0: cudaMalloc failed: out of memory
llama_model_load: error loading model: unable to allocate CUDA0 buffer
main: exiting due to model loading error"""


@pytest.mark.parametrize(
    ("backend", "output", "text"),
    [
        (
            "llamacpp",
            OUT_OF_GPU_MEMORY,
            "allocating 15317.02 MiB on device 0: cudaMalloc failed: out of memory",
        ),
        (
            "vllm",
            "RuntimeError: Worker failed with error 'CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 23.54 GiB'",
            "CUDA out of memory. Tried to allocate 2.50 GiB",
        ),
        (
            "vllm",
            "ValueError: Free memory on device cuda:0 (1.25/23.54 GiB) on startup is less than desired GPU memory utilization (0.9, 21.19 GiB). Decrease",
            "Free memory on device cuda:0 (1.25/23.54 GiB) on startup is less than desired GPU memory utilization (0.9, 21.19 GiB)",
        ),
        (
            "ollama",
            "Error: listen tcp 10.0.0.1:11434: bind: address already in use",
            "listen tcp 10.0.0.1:11434: bind: address already in use",
        ),
        (
            "diffusers",
            "INFO x\nERROR WARMUP_RESOLUTIONS: size is 0x0; ask for one",
            "WARMUP_RESOLUTIONS: size is 0x0; ask for one",
        ),
    ],
)
def test_other_causes_are_quoted_without_what_stands_before_them(
    backend: str, output: str, text: str
) -> None:
    """By the first pattern that has a line; those of GPUs as the source of vLLM and PyTorch has them."""
    assert f"(Error: {text})" in condition_of(backend, output)
