"""MLC-LLM: compiled models on CUDA and ROCm. Follows its documentation; no test of ours starts it."""

from collections.abc import Mapping, Sequence

from flexinfer.api.model import ModelSpec
from flexinfer.backends import arguments, base, options, variables

MOUNT = "/models"
"""Where a volume with weights is mounted (`sources.base.MOUNT`)."""

OVERRIDES = {
    "maxNumSequence": ("max_num_sequence", options.INTEGER, "Requests that are worked on at once, at most."),
    "maxTotalSeqLength": (
        "max_total_seq_length",
        options.INTEGER,
        "Tokens in the KV cache, all requests together, at most.",
    ),
    "prefillChunkSize": (
        "prefill_chunk_size",
        options.INTEGER,
        "Tokens of a prompt that are computed at once, at most.",
    ),
    "contextWindowSize": ("context_window_size", options.INTEGER, "Context of a request, in tokens."),
    "slidingWindowSize": (
        "sliding_window_size",
        options.INTEGER,
        "Size of the attention window of models that have one, in tokens.",
    ),
    "attentionSinkSize": (
        "attention_sink_size",
        options.INTEGER,
        "Tokens that stay in front of a sliding window.",
    ),
    "gpuMemoryUtilization": (
        "gpu_memory_utilization",
        options.NUMBER,
        "Share of the GPU's memory that the engine may use, from 0 to 1.",
    ),
}
OWN_KEYS = {
    "mode": options.Key(
        options.TEXT,
        "How many requests to expect: few, one, or many.",
        choices=("local", "interactive", "server"),
        becomes="--mode",
        default="server",
    ),
    "jitPolicy": options.Key(
        options.TEXT,
        "Whether the model is compiled at start.",
        choices=("ON", "OFF", "REDO", "READONLY"),
        becomes="MLC_JIT_POLICY",
        default="ON; READONLY on NVIDIA Maxwell",
    ),
    "modelLibPath": options.Key(
        options.TEXT,
        "Compiled library of the model, a path in the container.",
        becomes="--model-lib",
        default="`/models/<model>/maxwell-lib.so` on NVIDIA Maxwell; on AMD with READONLY `lib_rocm_<architecture>.so` beside the weights",
    ),
}


EXTRA = arguments.Extra(
    denied={
        **dict.fromkeys(("--host", "--port", "--overrides"), arguments.OURS),
        "--api-key": arguments.KEYS_OF_API,
        "--device": arguments.DEVICES,
        "--embedding-model-lib": arguments.CODE,
        **dict.fromkeys(("--additional-models", "--embedding-model"), arguments.ELSEWHERE),
        "--enable-debug": "it opens calls that change the engine",
        **dict.fromkeys(("--help", "-h"), arguments.ENDS),
    },
)
_MAXWELL = "https://llm.mlc.ai/docs/compilation/compile_models.html"


def _on_maxwell(serving: base.Serving) -> bool:
    return serving.vendor == base.NVIDIA and serving.architecture.startswith("sm_5")


def maxwell_library(name: str) -> str:
    """Return where the library of a Model is expected that was compiled for NVIDIA Maxwell, if the spec names no other."""
    return f"{MOUNT}/{name}/maxwell-lib.so"


def _compiles(_name: str, spec: ModelSpec) -> bool:
    return bool(spec.config.get("jitPolicy", "READONLY") != "READONLY")


def _has_no_library(_name: str, spec: ModelSpec) -> bool:
    """Return whether the spec names no compiled library and has no volume that could hold one."""
    return not spec.config.get("modelLibPath") and not spec.source.startswith(("pvc://", "HF://"))


def _is_half_precision(_name: str, spec: ModelSpec) -> bool:
    """Return whether the source's name says that it is not quantised for FP32: q4f16_1, fp16, bf16."""
    return "f16" in spec.source.lower() or "fp16" in spec.source.lower()


UNSUPPORTED = tuple(
    base.ArchitectureRule(
        vendor=base.NVIDIA, prefix="sm_5", reason=reason, when=when, applies=applies, source=_MAXWELL
    )
    for reason, when, applies in (
        (
            "the image cannot compile for Maxwell; set spec.config.jitPolicy READONLY",
            "jitPolicy other than READONLY",
            _compiles,
        ),
        (
            "it needs a library compiled for Maxwell; name it in spec.config.modelLibPath",
            "no modelLibPath, and a source without a volume",
            _has_no_library,
        ),
        (
            "Maxwell computes in FP32 only; use weights quantised for it, such as q0f32 or q4f32_1",
            "weights whose name says f16",
            _is_half_precision,
        ),
    )
)


def args(serving: base.Serving) -> Sequence[str]:
    """Return the command line of `mlc_llm serve`; `mode` is MLC's serving mode."""
    config = serving.config
    address = ["--host", "$(POD_IP)", "--port", "8000"]
    line = ["serve", serving.path, *address, "--mode", config.get("mode", "server")]
    if library := _library(serving):
        line += ["--model-lib", library]
    overrides = [
        f"{name}={options.written(config[key])}" for key, (name, _, _) in OVERRIDES.items() if key in config
    ]
    if serving.devices > 1:
        overrides.append(f"tensor_parallel_shards={serving.devices}")
    if serving.memory_share and takes_share(serving.spec):
        overrides.append(f"gpu_memory_utilization={serving.memory_share}")
    return [*line, "--overrides", ";".join(overrides)] if overrides else line


def _library(serving: base.Serving) -> str:
    """Return the compiled library that is loaded; empty: MLC looks for it, or compiles it."""
    if path := serving.config.get("modelLibPath"):
        return str(path)
    if _on_maxwell(serving):
        return maxwell_library(serving.name)
    if serving.vendor == base.AMD and serving.architecture and serving.config.get("jitPolicy") == "READONLY":
        return f"{serving.path}/lib_rocm_{serving.architecture}.so"
    return ""


def takes_share(spec: ModelSpec) -> bool:
    """Return whether MLC gets its share of the memory: its cache fills it. A spec that states one has chosen it."""
    return "gpuMemoryUtilization" not in spec.config


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return the policy on compiling at start: the image cannot compile for NVIDIA Maxwell."""
    policy = serving.config.get("jitPolicy", "READONLY" if _on_maxwell(serving) else "ON")
    return {"MLC_JIT_POLICY": str(policy)}


BACKEND = base.Backend(
    name="mlc-llm",
    title="MLC-LLM",
    aliases=("mlc", "mlc_llm", "mlc-llm-chat"),
    port=8000,
    images={base.NVIDIA: "ghcr.io/mlc-ai/mlc-llm:cuda", base.AMD: "ghcr.io/mlc-ai/mlc-llm:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/v1/models",
    api_paths=base.TEXT_PATHS,
    command=("python", "-m", "mlc_llm"),
    args=args,
    env=env,
    config=OWN_KEYS
    | {
        key: options.Key(
            kind, doc, becomes=f"--overrides {name}=", most=1 if kind == options.NUMBER else options.LARGEST
        )
        for key, (name, kind, doc) in OVERRIDES.items()
    }
    | options.DOWNLOAD_KEYS,
    extra=EXTRA,
    tuning=lambda serving: variables.amd(serving.vendor, serving.architecture),
    unsupported_architectures=UNSUPPORTED,
    experimental_architectures=base.WITHOUT_ROCM,
    takes_share=takes_share,
    loading_seconds=1800,
    root=True,
)
