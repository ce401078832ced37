"""vLLM-Omni: image and multi-modal generation on vLLM's server. Follows its documentation; no test of ours starts it."""

from flexinfer.backends import base, vllm

BACKEND = base.Backend(
    name="vllm-omni",
    title="vLLM-Omni",
    aliases=("vllm-diffusion", "vllm_omni"),
    port=8000,
    images={base.NVIDIA: "vllm/vllm-omni:latest", base.AMD: "vllm/vllm-omni-rocm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    args=lambda serving: [*vllm.args(serving), "--omni"],
    env=vllm.env,
    config=vllm.CONFIG,
    unsupported_architectures=vllm.UNSUPPORTED,
    experimental_architectures=vllm.EXPERIMENTAL,
    served_name=vllm.served_name,
    loading_seconds=1800,
    shared_memory="8Gi",
    tried=False,
)
