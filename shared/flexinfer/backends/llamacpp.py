"""llama.cpp's server: GGUF files on CPU, CUDA and ROCm; one process, ready when `/health` answers 200."""

from collections.abc import Sequence

from flexinfer.api.model import ModelSpec
from flexinfer.backends.base import (
    AMD,
    CPU,
    DOWNLOAD_KEYS,
    INTEGER,
    NVIDIA,
    PATH,
    SWITCH,
    TEXT,
    Backend,
    Key,
    Serving,
    flags,
    whole,
)

PARALLEL = 4
"""Requests at once unless `parallel` says otherwise; they share one context."""
ALL_LAYERS = 999

FLAGS = {
    "contextSize": Key(type=INTEGER, flag="--ctx-size"),
    "batchSize": Key(type=INTEGER, flag="--batch-size", least=1),
    "ubatchSize": Key(type=INTEGER, flag="--ubatch-size", least=1),
    "threads": Key(type=INTEGER, flag="--threads", least=1),
    "cacheTypeK": Key(type=TEXT, flag="--cache-type-k"),
    "cacheTypeV": Key(type=TEXT, flag="--cache-type-v"),
    "chatTemplate": Key(type=TEXT, flag="--chat-template"),
    "jinja": Key(type=SWITCH, flag="--jinja", off="--no-jinja"),
    "embedding": Key(type=SWITCH, flag="--embeddings"),
    "reasoningFormat": Key(type=TEXT, flag="--reasoning-format"),
    "reasoningBudget": Key(type=INTEGER, flag="--reasoning-budget", least=-1),
    "device": Key(type=TEXT, flag="--device"),
}
READ_BELOW = {
    "parallel": Key(type=INTEGER, least=1),
    "nGPULayers": Key(type=INTEGER),
    "flashAttention": Key(type=SWITCH),
    "fitOff": Key(type=SWITCH),
    "metrics": Key(type=SWITCH),
    "ggufFile": Key(type=PATH),
    "modelFile": Key(type=PATH),
    "mmproj": Key(type=PATH, absolute=True),
}


def file_of(spec: ModelSpec) -> str:
    """Return the GGUF file that the spec picks from a folder or repository, or nothing."""
    return str(spec.config.get("ggufFile") or spec.config.get("modelFile") or "")


def check(spec: ModelSpec) -> Sequence[str]:
    """Say what a GGUF engine cannot start with."""
    name = file_of(spec)
    if name and not name.lower().endswith(".gguf"):
        return [f"spec.config.ggufFile is {name}; llama.cpp loads files that end in .gguf"]
    if spec.source.startswith("HF://") and not name:
        return ["spec.config.ggufFile is missing: name the .gguf file of the repository that is to be served"]
    return ()


def model_path(serving: Serving) -> str:
    """Return the path of the GGUF file inside the container."""
    name = file_of(serving.spec)
    return serving.path if not name or serving.path.lower().endswith(".gguf") else f"{serving.path}/{name}"


def args(serving: Serving) -> Sequence[str]:
    """Return llama-server's command line."""
    config, parallel = serving.config, capacity(serving.spec)
    made = ["--host", "$(POD_IP)", "--port", "8080", "--model", model_path(serving), "--alias", serving.name]
    made += ["--parallel", str(parallel), "--metrics"]
    if parallel > 1:
        made.append("--kv-unified")
    layers = whole(config, "nGPULayers", ALL_LAYERS) if serving.vendor != CPU else 0
    made += ["--n-gpu-layers", str(layers)]
    if config.get("flashAttention") and serving.vendor != CPU:
        made += ["--flash-attn", "on"]
    if config.get("fitOff"):
        made += ["-fit", "off"]
    if projector := config.get("mmproj"):
        folder = (
            serving.path if not serving.path.lower().endswith(".gguf") else serving.path.rpartition("/")[0]
        )
        made += ["--mmproj", projector if projector.startswith("/") else f"{folder}/{projector}"]
    return made + flags(serving, FLAGS)


def capacity(spec: ModelSpec) -> int:
    """Return the number of slots."""
    return whole(spec.config, "parallel", PARALLEL)


BACKEND = Backend(
    name="llamacpp",
    title="llama.cpp",
    aliases=("llama.cpp", "llama-cpp", "llama_cpp"),
    port=8080,
    images={
        CPU: "ghcr.io/ggml-org/llama.cpp:server",
        NVIDIA: "ghcr.io/ggml-org/llama.cpp:server-cuda",
        AMD: "ghcr.io/ggml-org/llama.cpp:server-rocm",
    },
    schemes=("HF", "file", "pvc"),
    health="/health",
    args=args,
    config=READ_BELOW | FLAGS | DOWNLOAD_KEYS,
    check=check,
    capacity=capacity,
    in_flight="/metrics",
    in_flight_metrics=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
)
