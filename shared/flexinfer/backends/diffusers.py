"""Diffusers behind a small image API, configured by its environment. Needs an image of yours; not started in our tests."""

from collections.abc import Mapping

from flexinfer.backends.base import (
    AMD,
    DOWNLOAD_KEYS,
    INTEGER,
    NUMBER,
    NVIDIA,
    SWITCH,
    TEXT,
    Backend,
    Key,
    Serving,
)

VARIABLES = {
    "numInferenceSteps": ("DEFAULT_NUM_INFERENCE_STEPS", INTEGER),
    "guidanceScale": ("DEFAULT_GUIDANCE_SCALE", NUMBER),
    "scheduler": ("DEFAULT_SCHEDULER", TEXT),
    "negativePrompt": ("DEFAULT_NEGATIVE_PROMPT", TEXT),
    "useFp16": ("USE_FP16", SWITCH),
    "modelFamily": ("MODEL_FAMILY", TEXT),
    "pipelineMode": ("PIPELINE_MODE", TEXT),
    "quantization": ("QUANTIZATION", TEXT),
    "computeDtype": ("BNB_COMPUTE_DTYPE", TEXT),
    "cpuOffload": ("USE_CPU_OFFLOAD", SWITCH),
    "skipWarmup": ("SKIP_WARMUP", SWITCH),
    "warmupResolutions": ("WARMUP_RESOLUTIONS", TEXT),
}


def env(serving: Serving) -> Mapping[str, str]:
    """Return the environment that configures the server."""
    made = {"MODEL": serving.path, "MODEL_ID": serving.path, "HOST": "$(POD_IP)", "PORT": "8000"}
    for key, (name, _) in VARIABLES.items():
        if key in serving.config:
            value = serving.config[key]
            made[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return made


BACKEND = Backend(
    name="diffusers",
    title="Diffusers",
    port=8000,
    images={NVIDIA: "ghcr.io/flexinfer/diffusers-api:cuda", AMD: "ghcr.io/flexinfer/diffusers-api:rocm"},
    schemes=("HF", "file", "pvc"),
    health="/health",
    env=env,
    config={key: Key(type=kind) for key, (_, kind) in VARIABLES.items()} | DOWNLOAD_KEYS,
    capacity=lambda _spec: 1,
    loading_seconds=1800,
    shared_memory="8Gi",
    root=True,
    tried=False,
)
