"""vLLM-Omni: image and multi-modal generation on vLLM's server. Follows its documentation; not started in our tests."""

from flexinfer.backends import vllm
from flexinfer.backends.base import AMD, NVIDIA, Backend

BACKEND = Backend(
    name="vllm-omni",
    title="vLLM-Omni",
    aliases=("vllm-diffusion", "vllm_omni"),
    port=8000,
    images={NVIDIA: "vllm/vllm-omni:latest", AMD: "vllm/vllm-omni-rocm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    args=lambda serving: [*vllm.args(serving), "--omni"],
    env=vllm.env,
    config=vllm.CONFIG,
    served_name=vllm.served_name,
    loading_seconds=1800,
    shared_memory="8Gi",
    tried=False,
)
