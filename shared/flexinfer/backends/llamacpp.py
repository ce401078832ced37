"""llama.cpp's server: GGUF files on CPU, CUDA and ROCm; one process, ready when `/health` answers 200."""

from collections.abc import Sequence

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options
from flexinfer.backends.memory import CUDA_CONTEXT_MB, Demand

PARALLEL = 4
"""Requests at once unless `parallel` says otherwise; they share one context."""
ALL_LAYERS = 999
BATCH, UBATCH = 2048, 512
"""llama-server's defaults of --batch-size and --ubatch-size."""
FIT_CONTEXT, FIT_MARGIN_MB = 4096, 1024
"""llama-server's defaults of --fit-ctx and --fit-target: the least context that it makes do with, and what it leaves free of each GPU."""
CACHE_SHARES = {
    "f32": 2.0,
    "q8_0": 34 / 64,
    "q5_1": 24 / 64,
    "q5_0": 22 / 64,
    "q4_1": 20 / 64,
    "q4_0": 18 / 64,
    "iq4_nl": 18 / 64,
}
"""Type of a cached value -> its size as a part of 16 bits; the block sizes are those of ggml-common.h."""

FLAGS = {
    "contextSize": options.Key(
        type=options.INTEGER,
        flag="--ctx-size",
        doc="Context in tokens, shared by the requests in flight; 0 or absent: as trained, or what the GPU has room for.",
    ),
    "batchSize": options.Key(
        type=options.INTEGER,
        flag="--batch-size",
        least=1,
        doc="Tokens of a prompt that are submitted at once.",
    ),
    "ubatchSize": options.Key(
        type=options.INTEGER, flag="--ubatch-size", least=1, doc="Tokens that are computed at once."
    ),
    "threads": options.Key(
        type=options.INTEGER, flag="--threads", least=1, doc="CPU threads; one per core if absent."
    ),
    "cacheTypeK": options.Key(
        type=options.TEXT, flag="--cache-type-k", doc="Type of the cached keys, such as f16, q8_0 or q4_0."
    ),
    "cacheTypeV": options.Key(
        type=options.TEXT, flag="--cache-type-v", doc="Type of the cached values, such as f16, q8_0 or q4_0."
    ),
    "chatTemplate": options.Key(
        type=options.TEXT,
        flag="--chat-template",
        doc="Name of a built-in chat template, or the template itself; the file's own if absent.",
    ),
    "jinja": options.Key(
        type=options.SWITCH,
        flag="--jinja",
        off="--no-jinja",
        doc="Use the Jinja engine for chat templates, which tool calls need.",
    ),
    "embedding": options.Key(
        type=options.SWITCH, flag="--embeddings", doc="Serve embeddings and no completions."
    ),
    "reasoningFormat": options.Key(
        type=options.TEXT,
        flag="--reasoning-format",
        doc="How the reasoning part of an answer is returned, such as none, auto or deepseek.",
    ),
    "reasoningBudget": options.Key(
        type=options.INTEGER,
        flag="--reasoning-budget",
        least=-1,
        doc="Tokens of reasoning at most; -1: no limit, 0: none.",
    ),
    "device": options.Key(
        type=options.TEXT, flag="--device", doc="Devices to use, as `llama-server --list-devices` names them."
    ),
}
READ_BELOW = {
    "parallel": options.Key(
        type=options.INTEGER,
        least=1,
        becomes="--parallel",
        doc=f"Requests that are worked on at once; {PARALLEL} by default.",
    ),
    "nGPULayers": options.Key(
        type=options.INTEGER,
        becomes="--n-gpu-layers",
        doc="Layers that are kept on the GPU; all of them by default.",
    ),
    "flashAttention": options.Key(
        type=options.SWITCH, becomes="--flash-attn on", doc="Use flash attention; no effect on the CPU."
    ),
    "fitOff": options.Key(
        type=options.SWITCH,
        becomes="-fit off",
        doc="Do not adjust unset options, such as contextSize, to the memory of the device.",
    ),
    "metrics": options.Key(
        type=options.SWITCH,
        becomes="--metrics",
        doc="Accepted and without effect: metrics are always served.",
    ),
    "ggufFile": options.Key(
        type=options.PATH,
        becomes="--model",
        doc="The .gguf file of a folder or repository; required for HF://.",
    ),
    "modelFile": options.Key(type=options.PATH, becomes="--model", doc="Another name of ggufFile."),
    "mmproj": options.Key(
        type=options.PATH,
        absolute=True,
        becomes="--mmproj",
        doc="Multi-modal projector file, beside the model or as an absolute path.",
    ),
}


def file_of(spec: ModelSpec) -> str:
    """Return the GGUF file that the spec picks from a folder or repository; empty when it picks none."""
    return str(spec.config.get("ggufFile") or spec.config.get("modelFile") or "")


def check(spec: ModelSpec) -> Sequence[str]:
    """Return what an engine for GGUF files cannot start with."""
    name = file_of(spec)
    if name and not name.lower().endswith(".gguf"):
        return [f"spec.config.ggufFile is {name}; llama.cpp loads files that end in .gguf"]
    if spec.source.startswith("HF://") and not name:
        return ["spec.config.ggufFile is missing: name the .gguf file of the repository that is to be served"]
    return ()


def model_path(serving: base.Serving) -> str:
    """Return the path of the GGUF file inside the container."""
    name = file_of(serving.spec)
    return serving.path if not name or serving.path.lower().endswith(".gguf") else f"{serving.path}/{name}"


def args(serving: base.Serving) -> Sequence[str]:
    """Return llama-server's command line."""
    config, parallel = serving.config, capacity(serving.spec)
    arguments = ["--host", "$(POD_IP)", "--port", "8080"]
    arguments += ["--model", model_path(serving), "--alias", serving.name]
    arguments += ["--parallel", str(parallel), "--metrics"]
    if parallel > 1:
        arguments.append("--kv-unified")
    layers = options.whole(config, "nGPULayers", ALL_LAYERS) if serving.vendor != base.CPU else 0
    arguments += ["--n-gpu-layers", str(layers)]
    if serving.devices > 1:
        arguments += ["--split-mode", "layer", "--tensor-split", ",".join(["1"] * serving.devices)]
    if config.get("flashAttention") and serving.vendor != base.CPU:
        arguments += ["--flash-attn", "on"]
    if config.get("fitOff"):
        arguments += ["-fit", "off"]
    if projector := config.get("mmproj"):
        arguments += ["--mmproj", _beside_model(serving, projector)]
    return arguments + options.flags(config, FLAGS)


def _beside_model(serving: base.Serving, name: str) -> str:
    """Return the path of a file that a user names: absolute, or in the folder of the model."""
    is_file = serving.path.lower().endswith(".gguf")
    folder = serving.path.rpartition("/")[0] if is_file else serving.path
    return name if name.startswith("/") else f"{folder}/{name}"


def demand(spec: ModelSpec, headers: Headers) -> Demand:
    """Return how llama-server uses memory: all layers are on the GPUs, and one context is shared by all requests.

    A context that the spec leaves open is made as large as there is room for; the least of it is needed.
    """
    config, open_ = spec.config, takes_free(spec)
    trained = min(headers.context_length or FIT_CONTEXT, FIT_CONTEXT) if open_ else headers.context_length
    layers = options.whole(config, "nGPULayers", ALL_LAYERS)
    batch = min(options.whole(config, "batchSize", BATCH), options.whole(config, "ubatchSize", UBATCH))
    return Demand(
        context=options.whole(config, "contextSize", 0) or trained,
        sequences=capacity(spec),
        batch=batch,
        key_share=_cache_share(config.get("cacheTypeK")),
        value_share=_cache_share(config.get("cacheTypeV")),
        layers_on_gpu=1.0 if layers < 0 else layers / (headers.layers + 1),
        looks_up_on_cpu=True,
        overhead_mb=CUDA_CONTEXT_MB + (FIT_MARGIN_MB if open_ else 0),
    )


def takes_free(spec: ModelSpec) -> bool:
    """Return whether llama-server chooses the context by what is free: it does so unless the spec states one, or forbids it."""
    return not options.whole(spec.config, "contextSize", 0) and not spec.config.get("fitOff")


def _cache_share(kind: object) -> float:
    return CACHE_SHARES.get(str(kind), 1.0)


def capacity(spec: ModelSpec) -> int:
    """Return the number of slots."""
    return options.whole(spec.config, "parallel", PARALLEL)


BACKEND = base.Backend(
    name="llamacpp",
    title="llama.cpp",
    aliases=("llama.cpp", "llama-cpp", "llama_cpp"),
    port=8080,
    images={
        base.CPU: "ghcr.io/ggml-org/llama.cpp:server",
        base.NVIDIA: "ghcr.io/ggml-org/llama.cpp:server-cuda",
        base.AMD: "ghcr.io/ggml-org/llama.cpp:server-rocm",
    },
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=(
        *base.TEXT_PATHS,
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/rerank",
        "/v1/reranking",
        "/v1/audio/transcriptions",
    ),
    args=args,
    config=READ_BELOW | FLAGS | options.DOWNLOAD_KEYS,
    check=check,
    local_program=base.LocalProgram(
        program="llama-server",
        images=("ghcr.io/ggml-org/llama.cpp:server*", "ghcr.io/ggerganov/llama.cpp:server*"),
        paths=("/app/llama-server", "/llama-server", "llama-server"),
        fallback="flexinfer-llama-server",
        install="pip install 'flexinfer[local]'",
    ),
    capacity=capacity,
    demand=demand,
    takes_free=takes_free,
    in_flight="/metrics",
    in_flight_metrics=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
)
