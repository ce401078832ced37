"""vLLM: OpenAI-compatible, on CUDA and ROCm."""

from collections.abc import Mapping, Sequence

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options
from flexinfer.backends.memory import Demand

FLAGS = {
    "dtype": options.Key(
        type=options.TEXT,
        flag="--dtype",
        doc="Type of weights and activations, such as auto, float16 or bfloat16.",
    ),
    "maxModelLen": options.Key(
        type=options.INTEGER,
        flag="--max-model-len",
        least=1,
        doc="Context of a request, in tokens; as trained if absent.",
    ),
    "gpuMemoryUtilization": options.Key(
        type=options.NUMBER,
        flag="--gpu-memory-utilization",
        doc="Share of the GPU's memory that vLLM reserves, from 0 to 1; that of its footprint if absent.",
    ),
    "maxNumSeqs": options.Key(
        type=options.INTEGER,
        flag="--max-num-seqs",
        least=1,
        doc="Requests that are worked on at once, at most.",
    ),
    "maxNumBatchedTokens": options.Key(
        type=options.INTEGER,
        flag="--max-num-batched-tokens",
        least=1,
        doc="Tokens that one step computes, at most.",
    ),
    "quantization": options.Key(
        type=options.TEXT,
        flag="--quantization",
        doc="How the weights are quantised, such as awq or gptq; read from the model if absent.",
    ),
    "tokenizer": options.Key(
        type=options.TEXT,
        flag="--tokenizer",
        doc="Name or path of another tokenizer; the model's own if absent.",
    ),
    "kvCacheDtype": options.Key(
        type=options.TEXT, flag="--kv-cache-dtype", doc="Type of the KV cache, such as auto or fp8."
    ),
    "attentionBackend": options.Key(
        type=options.TEXT, flag="--attention-backend", doc="Attention implementation, such as FLASH_ATTN."
    ),
    "cpuOffloadGb": options.Key(
        type=options.NUMBER,
        flag="--cpu-offload-gb",
        doc="Weights kept in the CPU's memory, in GiB for each GPU.",
    ),
    "swapSpace": options.Key(
        type=options.NUMBER, flag="--swap-space", doc="CPU memory for swapped KV cache, in GiB for each GPU."
    ),
    "reasoningParser": options.Key(
        type=options.TEXT,
        flag="--reasoning-parser",
        doc="Parser of the reasoning part of an answer, such as deepseek_r1.",
    ),
    "enforceEager": options.Key(
        type=options.SWITCH, flag="--enforce-eager", doc="Use no CUDA graphs: less memory, slower."
    ),
    "trustRemoteCode": options.Key(
        type=options.SWITCH, flag="--trust-remote-code", doc="Run Python code that comes with the model."
    ),
    "enablePrefixCaching": options.Key(
        type=options.SWITCH,
        flag="--enable-prefix-caching",
        off="--no-enable-prefix-caching",
        doc="Reuse the KV cache of prompts that begin alike.",
    ),
    "disableLogStats": options.Key(
        type=options.SWITCH, flag="--disable-log-stats", doc="Log no statistics; its metrics then stay at 0."
    ),
}
READ_BELOW = {
    "servedModelName": options.Key(
        type=options.TEXT,
        becomes="--served-model-name",
        doc="Name under which vLLM knows the model; the Model's name if absent.",
    ),
    "tensorParallelSize": options.Key(
        type=options.INTEGER,
        least=1,
        becomes="--tensor-parallel-size",
        doc="GPUs that share each layer; spec.gpu.count if absent.",
    ),
    "enableToolCalling": options.Key(
        type=options.SWITCH, becomes="--enable-auto-tool-choice", doc="Let the model call tools."
    ),
    "toolCallParser": options.Key(
        type=options.TEXT,
        becomes="--tool-call-parser",
        doc="Parser of tool calls, with enableToolCalling; hermes by default.",
    ),
    "ggufFile": options.Key(
        type=options.PATH, becomes="--model", doc="A .gguf file of the folder or repository to serve."
    ),
}

MAX_NUM_SEQS, MAX_NUM_BATCHED_TOKENS = 256, 2048
"""vLLM's defaults of --max-num-seqs and --max-num-batched-tokens for a server."""
OVERHEAD_MB = 2048
"""Beside weights, KV cache and activations on each GPU: the CUDA context, captured graphs, the buffers of kernels and of sampling. An
allowance that no run here has measured, rather too large: with too little of it vLLM refuses to start."""
_CACHE_SHARES = {"fp8": 0.5, "fp8_e4m3": 0.5, "fp8_e5m2": 0.5}
_LOADED_SHARES = {"fp8": 0.5, "bitsandbytes": 0.3}
"""How vLLM quantises weights of 16 bits while it loads them -> what becomes of their size."""
CONFIG = READ_BELOW | FLAGS | options.DOWNLOAD_KEYS
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
    """Return the command line of vLLM's server; several devices are one tensor-parallel group."""
    config = serving.config
    gguf = config.get("ggufFile")
    path = f"{serving.path}/{gguf}" if gguf else serving.path
    arguments = ["--host", "$(POD_IP)", "--port", "8000", "--model", path]
    arguments += ["--served-model-name", served_name(serving.name, serving.spec)]
    parallel = options.whole(config, "tensorParallelSize", max(1, serving.devices))
    if parallel > 1:
        arguments += ["--tensor-parallel-size", str(parallel)]
    if config.get("enableToolCalling"):
        parser = config.get("toolCallParser", "hermes")
        arguments += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    if serving.memory_share and takes_share(serving.spec):
        arguments += ["--gpu-memory-utilization", serving.memory_share]
    return arguments + options.flags(config, FLAGS)


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
    variables = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if serving.vendor != base.AMD:
        variables |= base.HOME_AND_USER
    if serving.vendor == base.AMD and serving.architecture:
        variables["PYTORCH_ROCM_ARCH"] = serving.architecture
    return variables


BACKEND = base.Backend(
    name="vllm",
    title="vLLM",
    port=8000,
    images={base.NVIDIA: "vllm/vllm-openai:latest", base.AMD: "rocm/vllm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=API_PATHS,
    args=args,
    env=env,
    config=CONFIG,
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
    takes_share=takes_share,
    served_name=served_name,
    in_flight="/metrics",
    in_flight_metrics=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    loading_seconds=1800,
    shared_memory="8Gi",
)
