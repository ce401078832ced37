"""Diffusers behind OpenAI's image API: FlexInfer's own server (`flexinfer.image_server`), configured by its environment."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flexinfer.api.headers import Headers
from flexinfer.api.model import ModelSpec
from flexinfer.backends import base, options
from flexinfer.backends import variables as gpu_variables
from flexinfer.backends.failures import Failure, Kind
from flexinfer.backends.memory import CUDA_CONTEXT_MB, Demand

IMAGE = "ghcr.io/flexinfer/diffusers-server"
_SIZE = re.compile(r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}")


def _key(variable: str, kind: str, doc: str, **more: Any) -> options.Key:
    return options.Key(type=kind, doc=doc, becomes=variable, **more)


VARIABLES: Mapping[str, options.Key] = {
    "numInferenceSteps": _key(
        "DEFAULT_NUM_INFERENCE_STEPS",
        options.INTEGER,
        "Denoising steps of a request that names none.",
        least=1,
        most=1000,
        default="the pipeline's own",
    ),
    "guidanceScale": _key(
        "DEFAULT_GUIDANCE_SCALE",
        options.NUMBER,
        "How closely an image follows the prompt, for a request that does not say.",
        default="the pipeline's own",
    ),
    "scheduler": _key(
        "DEFAULT_SCHEDULER",
        options.TEXT,
        "Class of the noise scheduler, such as EulerDiscreteScheduler; one that does not fit ends the start.",
        default="the pipeline's own",
    ),
    "negativePrompt": _key(
        "DEFAULT_NEGATIVE_PROMPT",
        options.TEXT,
        "What an image must not show, for a request that does not say.",
    ),
    "useFp16": _key(
        "USE_FP16",
        options.SWITCH,
        "Compute in half precision, with the files of the variant fp16 if there are any; else as they are stored.",
    ),
    "modelFamily": _key(
        "MODEL_FAMILY",
        options.TEXT,
        "Kind of pipeline that the source must hold; another one ends the start. It is recognised without it.",
        choices=("flux", "sdxl", "sd3", "sd15"),
    ),
    "pipelineMode": _key(
        "PIPELINE_MODE",
        options.TEXT,
        "Turn a pipeline made for something else, such as inpainting, into one that draws from a prompt.",
        choices=("text2img",),
    ),
    "quantization": _key(
        "QUANTIZATION",
        options.TEXT,
        "Load what denoises and large text encoders in 4 or 8 bits, by bitsandbytes. It needs a GPU.",
        choices=("nf4", "int8"),
    ),
    "computeDtype": _key(
        "BNB_COMPUTE_DTYPE",
        options.TEXT,
        "Type in which weights quantised to nf4 are computed.",
        choices=("bfloat16", "float16", "float32"),
        default="that of the other weights",
    ),
    "cpuOffload": _key(
        "USE_CPU_OFFLOAD",
        options.SWITCH,
        "Keep parts that are not in use in the CPU's memory: slower, on a smaller GPU. It needs a GPU.",
    ),
    "skipWarmup": _key("SKIP_WARMUP", options.SWITCH, "Draw no image at start."),
    "warmupResolutions": _key(
        "WARMUP_RESOLUTIONS",
        options.TEXT,
        "Sizes of the images drawn at start, such as 512x512,1024x1024.",
        default="the pipeline's own",
    ),
}
_NEED_A_GPU: Mapping[str, str] = {
    "quantization": "diffusers quantises with bitsandbytes on a GPU alone",
    "cpuOffload": "everything is in the CPU's memory already",
}
"""Keys that mean nothing on the CPU, and why."""


def env(serving: base.Serving) -> Mapping[str, str]:
    """Return the environment that configures the server."""
    variables = {
        "MODEL": serving.path,
        "MODEL_ID": serving.path,
        "SERVED_MODEL_NAME": serving.name,
        "HOST": "$(POD_IP)",
        "PORT": "8000",
        "DEVICE": "cpu" if serving.vendor == base.CPU else "cuda",  # PyTorch calls AMD's GPUs so too
    }
    for name, key in VARIABLES.items():
        if name in serving.config:
            variables[key.becomes] = options.written(serving.config[name])
    return variables


def check(spec: ModelSpec) -> Sequence[str]:
    """Return what cannot work: sizes that are none, and what has no effect as the spec stands."""
    return [*_sizes(spec), *_on_the_cpu(spec), *_without_nf4(spec)]


def _sizes(spec: ModelSpec) -> Iterator[str]:
    sizes = spec.config.get("warmupResolutions", "")
    wrong = [one for one in sizes.split(",") if not _SIZE.fullmatch(one.strip())]
    if sizes and wrong:
        yield f"spec.config.warmupResolutions has {options.shown(wrong[0])}; a size is WIDTHxHEIGHT, such as 512x512"


def _on_the_cpu(spec: ModelSpec) -> Iterator[str]:
    """Yield what needs a GPU, for a spec without one."""
    if spec.gpu is not None and spec.gpu.vendor != base.CPU:
        return
    for key, why in _NEED_A_GPU.items():
        if value := spec.config.get(key):
            text = options.written(value)
            yield f"spec.config.{key} is {text}, but the Model has no GPU, and {why}; remove it, or set spec.gpu, such as {{vendor: auto}}"


def _without_nf4(spec: ModelSpec) -> Iterator[str]:
    """Yield a type to compute in that nothing is computed in."""
    if (kind := spec.config.get("computeDtype")) and spec.config.get("quantization") != "nf4":
        yield f"spec.config.computeDtype is {kind}, but only weights quantised to nf4 are computed in it; remove it, or set spec.config.quantization to nf4"


IMAGE_MB = 2560
"""What one image takes while it is computed: the largest step is decoding 1024 x 1024 pixels in half precision."""
_STORED_BITS: Mapping[str, float] = {"F32": 32, "F16": 16, "BF16": 16}
_QUANTISED_BITS: Mapping[str, float] = {"nf4": 4.5, "int8": 8}
"""Of a weight; nf4 has a scale in 32 bits for each 64 of them."""
_QUANTISED_SHARE, _LARGEST_PART = 0.75, 0.85
"""Of the weights, with room for pipelines that differ: what is quantised (80 % in SD 1.5, 95 % and more in SD 3 and FLUX), and the largest part,
which alone is on the GPU with cpuOffload (80 % in SD 1.5, 73 % in SDXL, 71 % in FLUX)."""


def demand(spec: ModelSpec, headers: Headers) -> Demand:
    """Return how a pipeline uses memory: all of its parts are loaded, or one at a time, and an image is computed beside them."""
    config, stored = spec.config, _STORED_BITS.get(headers.quantization, 0.0)
    loaded_bits = min(stored, 16.0) if config.get("useFp16") else stored
    factor = loaded_bits / stored if stored else 1.0
    bits = _QUANTISED_BITS.get(str(config.get("quantization")), loaded_bits)
    if stored and bits < loaded_bits:
        factor = factor * (1 - _QUANTISED_SHARE) + bits / stored * _QUANTISED_SHARE
    factor *= _LARGEST_PART if config.get("cpuOffload") else 1.0
    return Demand(weights_factor=factor, overhead_mb=CUDA_CONTEXT_MB + IMAGE_MB)


_ENDS = r"^ERROR ends, since its pipeline is broken: "
FAILURES = (
    Failure(_ENDS + r"OSError: Error (no file named .+?)\.?$", Kind.MISSING),
    Failure(_ENDS + r"OSError: (Unable to load weights from checkpoint file for '[^']+')", Kind.BROKEN),
    Failure(_ENDS + r"SafetensorError: (.+)", Kind.BROKEN),
    Failure(_ENDS + r"ValueError: (.+ is no (?:safetensors file|JSON): .+); put the complete", Kind.BROKEN),
    Failure(_ENDS + r"ValueError: (spec\.config\.scheduler is .+)"),
    Failure(
        _ENDS + r"JSONDecodeError: (.+)",
        Kind.BROKEN,
        r"a file of the weights or of their configuration is broken: \1",
    ),
    Failure(_ENDS + r"AttributeError: (module diffusers has no attribute .+)", Kind.ARCHITECTURE),
    Failure(_ENDS + r"ValueError: (`\w+` has no class `\w+`)", Kind.ARCHITECTURE),
    Failure(_ENDS + r"RuntimeError: .*DefaultCPUAllocator: (.+)", Kind.MEMORY),
    Failure(_ENDS + r"(?:OutOfMemoryError|MemoryFullError): (.+)", Kind.MEMORY),
    Failure(_ENDS + r"(.+)"),
    Failure(r"^ERROR (.+)"),
)
"""Our server writes the exception that ended the load as its last line, or what is wrong with its variables; by what diffusers and torch have
in it it is known what helps."""

BACKEND = base.Backend(
    name="diffusers",
    title="Diffusers",
    port=8000,
    images={base.CPU: f"{IMAGE}:latest", base.NVIDIA: f"{IMAGE}:latest", base.AMD: f"{IMAGE}:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    api_paths=("/v1/images/generations", "/v1/models"),
    env=env,
    tuning=lambda serving: gpu_variables.amd_torch(serving.vendor, serving.architecture),
    config={**VARIABLES, **options.DOWNLOAD_KEYS},
    check=check,
    local_program=base.LocalProgram(
        program="flexinfer-diffusers-server",
        images=(IMAGE, f"{IMAGE}:*"),
        paths=("flexinfer-diffusers-server",),
        fallback="flexinfer-diffusers-server",
        install="pip install 'flexinfer[diffusers]' into a virtual environment",
    ),
    in_flight="/metrics",
    in_flight_metrics=("diffusers:requests_in_flight",),
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
    failures=FAILURES,
    less_memory="lower spec.config.warmupResolutions, set useFp16, quantization or cpuOffload, or choose a GPU with more memory",
    loading_seconds=1800,
    shared_memory="8Gi",
    proven="flexinfer-diffusers-server, which is diffusers 0.42.1 with torch 2.13.0, on the CPU with a random Stable Diffusion",
)
