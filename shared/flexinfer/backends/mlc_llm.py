"""MLC-LLM: compiled models on CUDA and ROCm. Follows its documentation; not started in our tests."""

from collections.abc import Mapping, Sequence

from flexinfer.backends.base import (
    AMD,
    DOWNLOAD_KEYS,
    INTEGER,
    NUMBER,
    NVIDIA,
    TEXT,
    Backend,
    Key,
    Serving,
)

OVERRIDES = {
    "maxNumSequence": ("max_num_sequence", INTEGER),
    "maxTotalSeqLength": ("max_total_seq_length", INTEGER),
    "prefillChunkSize": ("prefill_chunk_size", INTEGER),
    "contextWindowSize": ("context_window_size", INTEGER),
    "slidingWindowSize": ("sliding_window_size", INTEGER),
    "attentionSinkSize": ("attention_sink_size", INTEGER),
    "gpuMemoryUtilization": ("gpu_memory_utilization", NUMBER),
}


def args(serving: Serving) -> Sequence[str]:
    """Return the command line of `mlc_llm serve`; `mode` is MLC's serving mode."""
    config = serving.config
    made = [
        "serve",
        serving.path,
        "--host",
        "$(POD_IP)",
        "--port",
        "8000",
        "--mode",
        config.get("mode", "server"),
    ]
    if "modelLibPath" in config:
        made += ["--model-lib", config["modelLibPath"]]
    chosen = [f"{name}={config[key]}" for key, (name, _) in OVERRIDES.items() if key in config]
    return [*made, "--overrides", ";".join(chosen)] if chosen else made


def env(serving: Serving) -> Mapping[str, str]:
    """Return the policy on compiling at start; NVIDIA Maxwell has no compiler of its own."""
    maxwell = serving.vendor == NVIDIA and serving.architecture.startswith("sm_5")
    policy = serving.config.get("jitPolicy", "READONLY" if maxwell else "ON")
    return {"MLC_JIT_POLICY": str(policy)}


BACKEND = Backend(
    name="mlc-llm",
    title="MLC-LLM",
    aliases=("mlc", "mlc_llm", "mlc-llm-chat"),
    port=8000,
    images={NVIDIA: "ghcr.io/mlc-ai/mlc-llm:cuda", AMD: "ghcr.io/mlc-ai/mlc-llm:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/v1/models",
    command=("python", "-m", "mlc_llm"),
    args=args,
    env=env,
    config={
        "mode": Key(type=TEXT, choices=("local", "interactive", "server")),
        "jitPolicy": Key(type=TEXT, choices=("ON", "OFF", "REDO", "READONLY")),
        "modelLibPath": Key(type=TEXT),
    }
    | {key: Key(type=kind) for key, (_, kind) in OVERRIDES.items()}
    | DOWNLOAD_KEYS,
    loading_seconds=1800,
    root=True,
    tried=False,
)
