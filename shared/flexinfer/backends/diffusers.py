"""Diffusers behind a small image API, configured by its environment. Needs an image of yours; no test of ours starts it."""

from collections.abc import Mapping

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options
from flexinfer.backends import variables as gpu_variables
from flexinfer.backends.memory import CUDA_CONTEXT_MB, Demand

VARIABLES = {
    "numInferenceSteps": (
        "DEFAULT_NUM_INFERENCE_STEPS",
        options.INTEGER,
        "Denoising steps of a request that names none.",
    ),
    "guidanceScale": (
        "DEFAULT_GUIDANCE_SCALE",
        options.NUMBER,
        "How closely an image follows the prompt, for a request that does not say.",
    ),
    "scheduler": ("DEFAULT_SCHEDULER", options.TEXT, "Name of the noise scheduler."),
    "negativePrompt": (
        "DEFAULT_NEGATIVE_PROMPT",
        options.TEXT,
        "What an image must not show, for a request that does not say.",
    ),
    "useFp16": ("USE_FP16", options.SWITCH, "Load the weights in half precision."),
    "modelFamily": ("MODEL_FAMILY", options.TEXT, "Kind of pipeline, such as flux, sdxl, sd3 or sd15."),
    "pipelineMode": ("PIPELINE_MODE", options.TEXT, "What the pipeline does, as the image API names it."),
    "quantization": ("QUANTIZATION", options.TEXT, "Quantise the weights while loading, such as nf4."),
    "computeDtype": (
        "BNB_COMPUTE_DTYPE",
        options.TEXT,
        "Type in which quantised weights are computed, such as bfloat16.",
    ),
    "cpuOffload": (
        "USE_CPU_OFFLOAD",
        options.SWITCH,
        "Keep the parts that are not in use in the CPU's memory.",
    ),
    "skipWarmup": ("SKIP_WARMUP", options.SWITCH, "Generate no image at start."),
    "warmupResolutions": (
        "WARMUP_RESOLUTIONS",
        options.TEXT,
        "Sizes of the images generated at start, such as 512x512,1024x1024.",
    ),
}


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return the environment that configures the server."""
    variables = {"MODEL": serving.path, "MODEL_ID": serving.path, "HOST": "$(POD_IP)", "PORT": "8000"}
    for key, (name, _, _) in VARIABLES.items():
        if key in serving.config:
            variables[name] = options.written(serving.config[key])
    return variables


IMAGE_MB = 2560
"""What one image takes while it is computed: the largest step is decoding 1024 x 1024 pixels in half precision."""


def demand(spec: ModelSpec, headers: Headers) -> Demand:
    """Return how a pipeline uses memory: all of its parts are loaded, and an image is computed beside them."""
    halved = headers.quantization == "F32" and spec.config.get("useFp16")
    return Demand(weights_factor=0.5 if halved else 1.0, overhead_mb=CUDA_CONTEXT_MB + IMAGE_MB)


BACKEND = base.Backend(
    name="diffusers",
    title="Diffusers",
    port=8000,
    images={
        base.NVIDIA: "ghcr.io/flexinfer/diffusers-api:cuda",
        base.AMD: "ghcr.io/flexinfer/diffusers-api:rocm",
    },
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=("/v1/images/generations", "/v1/models"),
    env=env,
    tuning=lambda serving: gpu_variables.amd_torch(serving.vendor, serving.architecture),
    config={
        key: options.Key(type=kind, doc=doc, becomes=name) for key, (name, kind, doc) in VARIABLES.items()
    }
    | options.DOWNLOAD_KEYS,
    unsupported_architectures=(
        base.ArchitectureRule(
            vendor=base.NVIDIA,
            prefix="sm_5",
            reason="PyTorch for CUDA 12.8 and newer holds no code for Maxwell",
            source="https://github.com/pytorch/pytorch/releases/tag/v2.8.0",
        ),
    ),
    experimental_architectures=(*base.OLD_CUDA, *base.WITHOUT_ROCM),
    most_devices=1,
    capacity=lambda _spec: 1,
    demand=demand,
    loading_seconds=1800,
    shared_memory="8Gi",
    root=True,
)
