"""vLLM: OpenAI-compatible, CUDA and ROCm; not on NVIDIA Maxwell (the placer refuses those devices)."""

from collections.abc import Mapping, Sequence

from flexinfer.api.model import ModelSpec
from flexinfer.backends.base import (
    AMD,
    DOWNLOAD_KEYS,
    INTEGER,
    NUMBER,
    NVIDIA,
    PATH,
    SOMEBODY,
    SWITCH,
    TEXT,
    Backend,
    Key,
    Serving,
    flags,
    whole,
)

FLAGS = {
    "dtype": Key(type=TEXT, flag="--dtype"),
    "maxModelLen": Key(type=INTEGER, flag="--max-model-len", least=1),
    "gpuMemoryUtilization": Key(type=NUMBER, flag="--gpu-memory-utilization"),
    "maxNumSeqs": Key(type=INTEGER, flag="--max-num-seqs", least=1),
    "maxNumBatchedTokens": Key(type=INTEGER, flag="--max-num-batched-tokens", least=1),
    "quantization": Key(type=TEXT, flag="--quantization"),
    "tokenizer": Key(type=TEXT, flag="--tokenizer"),
    "kvCacheDtype": Key(type=TEXT, flag="--kv-cache-dtype"),
    "attentionBackend": Key(type=TEXT, flag="--attention-backend"),
    "cpuOffloadGb": Key(type=NUMBER, flag="--cpu-offload-gb"),
    "swapSpace": Key(type=NUMBER, flag="--swap-space"),
    "reasoningParser": Key(type=TEXT, flag="--reasoning-parser"),
    "enforceEager": Key(type=SWITCH, flag="--enforce-eager"),
    "trustRemoteCode": Key(type=SWITCH, flag="--trust-remote-code"),
    "enablePrefixCaching": Key(type=SWITCH, flag="--enable-prefix-caching", off="--no-enable-prefix-caching"),
    "disableLogStats": Key(type=SWITCH, flag="--disable-log-stats"),
}
READ_BELOW = {
    "servedModelName": Key(type=TEXT),
    "tensorParallelSize": Key(type=INTEGER, least=1),
    "enableToolCalling": Key(type=SWITCH),
    "toolCallParser": Key(type=TEXT),
    "ggufFile": Key(type=PATH),
}

CONFIG = READ_BELOW | FLAGS | DOWNLOAD_KEYS


def args(serving: Serving) -> Sequence[str]:
    """Return the command line of vLLM's server; several devices are one tensor-parallel group."""
    config = serving.config
    gguf = config.get("ggufFile")
    path = f"{serving.path}/{gguf}" if gguf else serving.path
    made = ["--host", "$(POD_IP)", "--port", "8000", "--model", path]
    made += ["--served-model-name", served_name(serving.name, serving.spec)]
    parallel = whole(config, "tensorParallelSize", max(1, serving.devices))
    if parallel > 1:
        made += ["--tensor-parallel-size", str(parallel)]
    if config.get("enableToolCalling"):
        made += ["--enable-auto-tool-choice", "--tool-call-parser", config.get("toolCallParser", "hermes")]
    return made + flags(serving, FLAGS)


def served_name(name: str, spec: ModelSpec) -> str:
    """Return the name that vLLM knows the model by."""
    return str(spec.config.get("servedModelName") or name)


def env(serving: Serving) -> Mapping[str, str]:
    """Return vLLM's environment."""
    made = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if serving.vendor != AMD:
        made |= SOMEBODY
    if serving.vendor == AMD and serving.architecture:
        made["PYTORCH_ROCM_ARCH"] = serving.architecture
    return made


BACKEND = Backend(
    name="vllm",
    title="vLLM",
    port=8000,
    images={NVIDIA: "vllm/vllm-openai:latest", AMD: "rocm/vllm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    args=args,
    env=env,
    config=CONFIG,
    capacity=lambda spec: whole(spec.config, "maxNumSeqs", 256),
    served_name=served_name,
    in_flight="/metrics",
    in_flight_metrics=("vllm:num_requests_running", "vllm:num_requests_waiting"),
    loading_seconds=1800,
    shared_memory="8Gi",
)
