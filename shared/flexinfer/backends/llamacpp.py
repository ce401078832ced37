"""llama.cpp's server: GGUF files on CPU, CUDA and ROCm; one process, ready when `/health` answers 200."""

from collections.abc import Sequence

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options, variables
from flexinfer.backends.failures import Failure, Kind
from flexinfer.backends.llamacpp_keys import (
    ALL_LAYERS,
    BATCH,
    CACHE_SHARES,
    EXTRA,
    FIT_CONTEXT,
    FIT_MARGIN_MB,
    FLAGS,
    PARALLEL,
    READ_BELOW,
    SSE_PING_SECONDS,
    UBATCH,
)
from flexinfer.backends.memory import CUDA_CONTEXT_MB, Demand

NO_OWN_CLAIM = (
    "spec.config.keepPromptCacheMB needs a claim of the Model's own, where no other Model reads its prompts: "
    "use an HF:// source with cache.strategy SharedPVC or Memory and no cache.pvcName, or set it to 0"
)


def file_of(spec: ModelSpec) -> str:
    """Return the GGUF file that the spec picks from a folder or repository; empty when it picks none."""
    return str(spec.config.get("ggufFile") or spec.config.get("modelFile") or "")


def check(spec: ModelSpec) -> Sequence[str]:
    """Return what an engine for GGUF files cannot start with."""
    name = file_of(spec)
    if spec.config.get("ggufFile") and spec.config.get("modelFile"):
        return ["spec.config.modelFile is another name of ggufFile; remove one of them"]
    if name and not name.lower().endswith(".gguf"):
        return [f"spec.config.ggufFile is {name}; llama.cpp loads files that end in .gguf"]
    if keeps_mb(spec) and not _has_own_claim(spec):
        return [NO_OWN_CLAIM]
    if spec.source.startswith("HF://") and not name:
        return ["spec.config.ggufFile is missing: name the .gguf file of the repository that is to be served"]
    return ()


def keeps_mb(spec: ModelSpec) -> int:
    """Return the room for prompt caches that outlive the engine, in MiB."""
    return options.whole(spec.config, "keepPromptCacheMB", 0)


def _has_own_claim(spec: ModelSpec) -> bool:
    cache = spec.cache
    return spec.source.startswith("HF://") and (
        cache is None or (cache.strategy in (None, "SharedPVC", "Memory") and not cache.pvc_name)
    )


def model_path(serving: base.Serving) -> str:
    """Return the path of the GGUF file inside the container."""
    name = file_of(serving.spec)
    return serving.path if not name or serving.path.lower().endswith(".gguf") else f"{serving.path}/{name}"


def args(serving: base.Serving) -> Sequence[str]:
    """Return llama-server's command line."""
    config, parallel = serving.config, capacity(serving.spec)
    line = ["--host", "$(POD_IP)", "--port", "8080"]
    line += ["--model", model_path(serving), "--alias", serving.name]
    line += ["--parallel", str(parallel), "--metrics", "--sse-ping-interval", str(SSE_PING_SECONDS)]
    if parallel > 1:
        line.append("--kv-unified")
    if threads := options.whole(config, "threads", serving.threads):
        line += ["--threads", str(threads)]
    layers = options.whole(config, "nGPULayers", ALL_LAYERS) if serving.vendor != base.CPU else 0
    line += ["--n-gpu-layers", str(layers)]
    if serving.devices > 1:
        line += ["--split-mode", "layer", "--tensor-split", ",".join(["1"] * serving.devices)]
    if config.get("flashAttention") and serving.vendor != base.CPU:
        line += ["--flash-attn", "on"]
    if keeps_mb(serving.spec):
        line += ["--slot-save-path", base.PROMPTS]
    if config.get("fitOff"):
        line += ["-fit", "off"]
    if projector := config.get("mmproj"):
        line += ["--mmproj", _beside_model(serving, projector)]
    return line + options.flags(config, FLAGS)


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
    context_length = (
        min(headers.context_length or FIT_CONTEXT, FIT_CONTEXT) if open_ else headers.context_length
    )
    layers = options.whole(config, "nGPULayers", ALL_LAYERS)
    batch = min(options.whole(config, "batchSize", BATCH), options.whole(config, "ubatchSize", UBATCH))
    return Demand(
        context=options.whole(config, "contextSize", 0) or context_length,
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


FAILURES = (
    Failure(r"gguf_init_from\w*: (failed to open .+)", Kind.MISSING),
    Failure(r"(no model file at .+)", Kind.MISSING),
    Failure(r"gguf_init_from\w*: (.+)", Kind.BROKEN),
    Failure(r"(allocating \S+ MiB on device \d+: .+)", Kind.MEMORY),
    Failure(r"ggml_aligned_malloc: (.+?) *$", Kind.MEMORY),
    Failure(r"error loading model: (unknown .+)", Kind.ARCHITECTURE),
    Failure(r"error loading model: (.+ is corrupted or incomplete)", Kind.BROKEN),
    Failure(r"error loading model: (.+)"),
    Failure(r"llama_init_from_model: (failed .+)"),
    Failure(r"llama_model_load: error (.+)"),
)
"""The cause before its consequences: gguf.cpp, ggml-cuda.cu, ggml.c, llama.cpp and llama-context.cpp. The last line says only that the server ends."""

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
    extra=EXTRA,
    denied_variables=("LLAMA_ARG_*", "LLAMA_API_KEY", "HF_TOKEN"),
    tuning=lambda serving: variables.amd(serving.vendor, serving.architecture),
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
    proven="flexinfer-llama-server, which is llama.cpp of xllamacpp 2026.10.11549, and llama-server of 11434.0.0, on the CPU",
    keeps_mb=keeps_mb,
    failures=FAILURES,
    less_memory="lower spec.config.contextSize, batchSize or nGPULayers, use smaller weights, or choose a GPU with more memory",
    in_flight="/metrics",
    in_flight_metrics=("llamacpp:requests_processing", "llamacpp:requests_deferred"),
)
