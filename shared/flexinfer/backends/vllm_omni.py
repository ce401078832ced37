"""vLLM-Omni: image and multi-modal generation on vLLM's server. Follows its documentation; no test of ours starts it.

It gets no share of the memory: its `--gpu-memory-utilization` is that of each stage of a pipeline, and several stages on one GPU
would take the share several times (https://docs.vllm.ai/projects/vllm-omni/en/latest/configuration/gpu_memory_utilization/).
"""

from collections.abc import Sequence

import msgspec

from flexinfer.backends import arguments, base, vllm, vllm_keys

CONFIG = vllm_keys.CONFIG | {
    "gpuMemoryUtilization": msgspec.structs.replace(
        vllm_keys.CONFIG["gpuMemoryUtilization"],
        doc="Share of the GPU's memory that each stage reserves, from 0 to 1.",
    )
}


EXTRA = msgspec.structs.replace(
    vllm_keys.EXTRA,
    denied={
        **vllm_keys.EXTRA.denied,
        **dict.fromkeys(
            ("--omni", "--stage-id", "--replica-id", "--omni-*", "-oma", "-omp", "-ora", "--ray-address"),
            arguments.OURS,
        ),
        **dict.fromkeys(("--custom-pipeline-args", "--robot-openpi-*"), arguments.CODE),
    },
)


def args(serving: base.Serving) -> Sequence[str]:
    """Return the command line of vLLM's server with what makes it vLLM-Omni's."""
    return [*vllm.args(msgspec.structs.replace(serving, memory_share="")), "--omni"]


BACKEND = base.Backend(
    name="vllm-omni",
    title="vLLM-Omni",
    aliases=("vllm-diffusion", "vllm_omni"),
    port=8000,
    images={base.NVIDIA: "vllm/vllm-omni:latest", base.AMD: "vllm/vllm-omni-rocm:latest"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=(
        *vllm.API_PATHS,
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/audio/speech",
        "/v1/videos",
        "/v1/videos/*",
    ),
    read_paths=("/v1/videos", "/v1/videos/*"),
    command=("vllm", "serve"),
    args=args,
    env=vllm.env,
    config=CONFIG,
    extra=EXTRA,
    denied_variables=vllm.DENIED_VARIABLES,
    tuning=vllm.tuning,
    unsupported_architectures=vllm.UNSUPPORTED,
    experimental_architectures=vllm.EXPERIMENTAL,
    served_name=vllm.served_name,
    demand=vllm.demand,
    loading_seconds=1800,
    shared_memory="8Gi",
)
