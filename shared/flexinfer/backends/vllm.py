"""vLLM: OpenAI-compatible, on CUDA and ROCm."""

from collections.abc import Mapping, Sequence

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options, variables, vllm_logging
from flexinfer.backends.failures import Failure, Kind
from flexinfer.backends.memory import Demand
from flexinfer.backends.vllm_keys import (
    CONFIG,
    EXTRA,
    FLAGS,
    MAX_NUM_BATCHED_TOKENS,
    MAX_NUM_SEQS,
    VARIABLES,
)

SHUTDOWN_SECONDS = 20
"""How long vLLM works on after SIGTERM, within a Pod's grace period of 30 s. Without it a running stream ends with `[DONE]` as if it were whole."""
OVERHEAD_MB = 2048
"""Beside weights, KV cache and activations on each GPU: the CUDA context, captured graphs, the buffers of kernels and of sampling. An
allowance that no run here has measured, rather too large: with too little of it vLLM refuses to start."""
_CACHE_SHARES = {"fp8": 0.5, "fp8_e4m3": 0.5, "fp8_e5m2": 0.5}
_LOADED_SHARES = {"fp8": 0.5, "bitsandbytes": 0.3}
"""How vLLM quantises weights of 16 bits while it loads them -> what becomes of their size."""
_REQUIREMENTS = "https://docs.vllm.ai/en/latest/getting_started/installation/gpu/"
UNSUPPORTED = tuple(
    base.ArchitectureRule(
        vendor=base.NVIDIA,
        prefix=prefix,
        reason=f"vLLM needs compute capability 7.0, {generation} has {number}.x",
        source=_REQUIREMENTS,
    )
    for prefix, generation, number in (("sm_5", "Maxwell", 5), ("sm_6", "Pascal", 6))
)
EXPERIMENTAL = (
    base.ArchitectureRule(
        vendor=base.NVIDIA,
        prefix="sm_70",
        reason="vLLM asks for compute capability 7.5 since 0.31, Volta has 7.0",
        source=_REQUIREMENTS,
    ),
    *(
        base.ArchitectureRule(
            vendor=base.AMD,
            prefix=prefix,
            reason=f"vLLM's list of AMD GPUs has gfx90a, gfx942, gfx1100 and newer, but not {prefix}",
            source=_REQUIREMENTS,
        )
        for prefix in ("gfx906", "gfx1030")
    ),
)


DENIED_VARIABLES = (
    "VLLM_API_KEY",
    "VLLM_PLUGINS",
    "VLLM_SERVER_DEV_MODE",
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    "VLLM_PORT",
    vllm_logging.CONFIG_PATH,
)
API_PATHS = (
    *base.TEXT_PATHS,
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/rerank",
    "/v1/score",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
)
"""What vLLM's server offers to clients (https://docs.vllm.ai/en/latest/serving/openai_compatible_server/)."""


def args(serving: base.Serving) -> Sequence[str]:
    """Return the command line of vLLM's server; several devices are one tensor-parallel group.

    The model is its one positional argument: another one, among the arguments of the spec, is an error instead of another model.
    """
    config = serving.config
    gguf = config.get("ggufFile")
    line = [f"{serving.path}/{gguf}" if gguf else serving.path, "--host", "$(POD_IP)", "--port", "8000"]
    line += ["--served-model-name", served_name(serving.name, serving.spec)]
    line += ["--shutdown-timeout", str(SHUTDOWN_SECONDS)]
    parallel = options.whole(config, "tensorParallelSize", max(1, serving.devices))
    if parallel > 1:
        line += ["--tensor-parallel-size", str(parallel)]
    if config.get("enableToolCalling"):
        line += ["--enable-auto-tool-choice", "--tool-call-parser", config.get("toolCallParser", "hermes")]
    if serving.memory_share and takes_share(serving.spec):
        line += ["--gpu-memory-utilization", serving.memory_share]
    return line + options.flags(config, FLAGS)


def takes_share(spec: ModelSpec) -> bool:
    """Return whether vLLM gets its share of the memory; a spec that states one has chosen it."""
    return "gpuMemoryUtilization" not in spec.config


def demand(spec: ModelSpec, headers: Headers) -> Demand:
    """Return how vLLM uses memory: its KV cache holds one request of full length at least, or vLLM refuses to start."""
    config = spec.config
    share = _CACHE_SHARES.get(str(config.get("kvCacheDtype")), 1.0)
    plain = headers.quantization in ("BF16", "F16")
    return Demand(
        context=options.whole(config, "maxModelLen", 0) or headers.context_length,
        sequences=options.whole(config, "maxNumSeqs", MAX_NUM_SEQS),
        batch=options.whole(config, "maxNumBatchedTokens", MAX_NUM_BATCHED_TOKENS),
        key_share=share,
        value_share=share,
        activation_bytes=2,
        mask_bytes=0,
        weights_factor=_LOADED_SHARES.get(str(config.get("quantization")), 1.0) if plain else 1.0,
        overhead_mb=OVERHEAD_MB,
    )


def served_name(name: str, spec: ModelSpec) -> str:
    """Return the name that vLLM knows the model by."""
    return str(spec.config.get("servedModelName") or name)


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return vLLM's environment."""
    selection = {
        key.becomes: options.written(serving.config[name], key.type)
        for name, key in VARIABLES.items()
        if name in serving.config
    }
    defaults = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    home = base.HOME_AND_USER if serving.vendor != base.AMD else {}
    return {**defaults, **home, **selection}


def tuning(serving: base.Serving) -> Mapping[str, str]:
    """Return what PyTorch needs on an AMD GPU."""
    return variables.amd_torch(serving.vendor, serving.architecture)


FAILURES = (
    Failure(r"((?:CUDA|HIP) out of memory\. Tried to allocate [^.]+\.\d+ \w+)", Kind.MEMORY),
    Failure(r"OutOfMemoryError: (.+)", Kind.MEMORY),
    Failure(r"DefaultCPUAllocator: (.+)", Kind.MEMORY),
    Failure(r"(Available memory on node .+?)\. ", Kind.MEMORY),
    Failure(r"(To serve at least one request .+?\))\.", Kind.MEMORY),
    Failure(r"(Free memory on device .+?)\. ", Kind.MEMORY),
    Failure(r"(No available memory for the cache blocks)", Kind.MEMORY),
    Failure(r"Value error, (.+? does not recognize this architecture)", Kind.ARCHITECTURE),
    Failure(r"Value error, (Model architectures \[.*?\] are not supported for now)", Kind.ARCHITECTURE),
    Failure(
        r"'\w+', '\w+'\]\) \[type=value_error",
        Kind.ARCHITECTURE,
        "the architecture in config.json is not one of those that this vLLM lists",
    ),
    Failure(r"Repo id must be in the form .*: '([^']+)'", Kind.MISSING, r"there is no model at \1"),
    Failure(r"SafetensorError: (.+)", Kind.BROKEN),
    Failure(r"Value error, (.+?)(?: \[type=value_error|$)"),
    Failure(
        r"^(?:\(\w+ pid=\d+\) ERROR \S+ \S+ \[\S+\] )?(?:\w+\.)*"
        r"((?!RuntimeError: Engine core init|Exception: WorkerProc init)\w*(?:Error|Exception): .+)"
    ),
)
"""The cause before its consequences, which are the last lines: `WorkerProc initialization failed`, `Engine core initialization failed. See
root cause above`. Of a list of all architectures the kubelet keeps the end."""

BACKEND = base.Backend(
    name="vllm",
    title="vLLM",
    port=8000,
    images={base.NVIDIA: "vllm/vllm-openai:latest", base.AMD: "rocm/vllm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=API_PATHS,
    args=args,
    env=lambda serving: {**env(serving), **vllm_logging.env(serving)},
    files=vllm_logging.files,
    command=("vllm", "serve"),
    config=CONFIG,
    extra=EXTRA,
    denied_variables=DENIED_VARIABLES,
    tuning=tuning,
    unsupported_architectures=UNSUPPORTED,
    experimental_architectures=EXPERIMENTAL,
    local_program=base.LocalProgram(
        program="vllm",
        images=("vllm/vllm-openai*", "docker.io/vllm/vllm-openai*", "rocm/vllm*", "vllm/vllm-openai-cpu*"),
        paths=("vllm", "/bin/vllm", "/usr/bin/vllm", "/usr/local/bin/vllm"),
        subcommand=("serve",),
        install="pip install vllm",
    ),
    capacity=lambda spec: options.whole(spec.config, "maxNumSeqs", MAX_NUM_SEQS),
    demand=demand,
    failures=FAILURES,
    less_memory="lower spec.config.maxModelLen or maxNumSeqs, use smaller or quantized weights, or choose GPUs with more memory",
    takes_share=takes_share,
    served_name=served_name,
    in_flight="/metrics",
    in_flight_metrics=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    loading_seconds=1800,
    shared_memory="8Gi",
    proven="vLLM 0.32.0 with torch 2.13.0, on the CPU with a random Llama",
)
