"""MLC-LLM: compiled models on CUDA and ROCm. Follows its documentation; no test of ours starts it."""

from collections.abc import Mapping, Sequence

from flexinfer.backends import base, options

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
        type=options.TEXT,
        choices=("local", "interactive", "server"),
        becomes="--mode",
        doc="How many requests to expect: few, one, or many; server by default.",
    ),
    "jitPolicy": options.Key(
        type=options.TEXT,
        choices=("ON", "OFF", "REDO", "READONLY"),
        becomes="MLC_JIT_POLICY",
        doc="Whether the model is compiled at start; ON by default, READONLY on NVIDIA Maxwell.",
    ),
    "modelLibPath": options.Key(
        type=options.TEXT,
        becomes="--model-lib",
        doc="Compiled library of the model, a path in the container.",
    ),
}


def args(serving: base.Serving) -> Sequence[str]:
    """Return the command line of `mlc_llm serve`; `mode` is MLC's serving mode."""
    config = serving.config
    address = ["--host", "$(POD_IP)", "--port", "8000"]
    arguments = ["serve", serving.path, *address, "--mode", config.get("mode", "server")]
    if "modelLibPath" in config:
        arguments += ["--model-lib", config["modelLibPath"]]
    overrides = [f"{name}={config[key]}" for key, (name, _, _) in OVERRIDES.items() if key in config]
    return [*arguments, "--overrides", ";".join(overrides)] if overrides else arguments


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return the policy on compiling at start: the image cannot compile for NVIDIA Maxwell."""
    maxwell = serving.vendor == base.NVIDIA and serving.architecture.startswith("sm_5")
    policy = serving.config.get("jitPolicy", "READONLY" if maxwell else "ON")
    return {"MLC_JIT_POLICY": str(policy)}


BACKEND = base.Backend(
    name="mlc-llm",
    title="MLC-LLM",
    aliases=("mlc", "mlc_llm", "mlc-llm-chat"),
    port=8000,
    images={base.NVIDIA: "ghcr.io/mlc-ai/mlc-llm:cuda", base.AMD: "ghcr.io/mlc-ai/mlc-llm:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/v1/models",
    command=("python", "-m", "mlc_llm"),
    args=args,
    env=env,
    config=OWN_KEYS
    | {
        key: options.Key(type=kind, doc=doc, becomes=f"--overrides {name}=")
        for key, (name, kind, doc) in OVERRIDES.items()
    }
    | options.DOWNLOAD_KEYS,
    loading_seconds=1800,
    root=True,
    tried=False,
)
