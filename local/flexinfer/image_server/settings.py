"""Settings: the environment that the backend `diffusers` starts this server with."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.image_server import generation
from flexinfer.image_server.errors import RequestError
from flexinfer.image_server.generation import Defaults

FAMILIES: Mapping[str, str] = {
    "flux": "Flux",
    "sdxl": "StableDiffusionXL",
    "sd3": "StableDiffusion3",
    "sd15": "StableDiffusionPipeline",
}
"""How the class of a family's pipelines begins, as model_index.json names it."""
FINISH_SECONDS = 20.0
"""How long requests that were taken may continue after SIGTERM; the grace period of a Pod is 30 s."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How to load a pipeline, and where to listen."""

    path: Path
    model: str
    host: str
    port: int
    device: str
    defaults: Defaults
    scheduler: str = ""
    half: bool = False
    family: str = ""
    text_to_image: bool = False
    """Whether a pipeline made for something else is turned into one that draws from a prompt alone."""
    quantization: str = ""
    compute_dtype: str = ""
    offload: bool = False
    warm_up: tuple[tuple[int | None, int | None], ...] = ()
    """Sizes of the images that are drawn before the server is ready; (None, None) is the pipeline's own."""
    finish_seconds: float = FINISH_SECONDS


def read(environment: Mapping[str, str]) -> Settings:
    """Return the settings of an environment. Raises ValueError that names the variable."""
    path = environment.get("MODEL") or environment.get("MODEL_ID", "")
    if not path:
        raise ValueError("MODEL is not set; it names the folder of a diffusers pipeline")
    return Settings(
        path=Path(path),
        model=environment.get("SERVED_MODEL_NAME") or Path(path).name,
        host=environment.get("HOST", "127.0.0.1"),
        port=_port(environment.get("PORT", "8000")),
        device=environment.get("DEVICE", ""),
        defaults=generation.numbers(environment),
        scheduler=environment.get("DEFAULT_SCHEDULER", ""),
        half=_switch(environment, "USE_FP16"),
        family=environment.get("MODEL_FAMILY", ""),
        text_to_image=environment.get("PIPELINE_MODE", "") == "text2img",
        quantization=environment.get("QUANTIZATION", ""),
        compute_dtype=environment.get("BNB_COMPUTE_DTYPE", ""),
        offload=_switch(environment, "USE_CPU_OFFLOAD"),
        warm_up=()
        if _switch(environment, "SKIP_WARMUP")
        else _sizes(environment.get("WARMUP_RESOLUTIONS", "")),
        finish_seconds=_seconds(environment, "FINISH_SECONDS", FINISH_SECONDS),
    )


def check(settings: Settings) -> None:
    """Raise ValueError if the source holds no pipeline, or one of another family than the one that is expected: at once, before any import."""
    index = settings.path / "model_index.json"
    if not index.is_file():
        raise ValueError(f"{index} does not exist; the source must be the folder of a diffusers pipeline")
    try:
        content = msgspec.json.decode(index.read_bytes(), type=_Index)
    except msgspec.DecodeError as error:
        raise ValueError(f"{index} is not the index of a diffusers pipeline: {error}") from None
    family = settings.family
    if family and not content.name.startswith(FAMILIES.get(family, family)):
        raise ValueError(
            f"{settings.path} holds a {content.name}, which is not of the family {family}; correct or remove modelFamily"
        )


def is_quantized(settings: Settings) -> bool:
    """Return whether weights are quantised, while they are read or already as they are stored."""
    parts = settings.path.glob("*/config.json")
    return bool(settings.quantization) or any(b'"quantization_config"' in part.read_bytes() for part in parts)


class _Index(msgspec.Struct):
    """What is read of model_index.json."""

    name: str = msgspec.field(name="_class_name")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) < 1 << 16:
        raise ValueError(f"PORT is {text!r}; it must be a port number")
    return int(text)


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} is {text!r}; it must be a number of seconds")
    return seconds


def _switch(environment: Mapping[str, str], name: str) -> bool:
    text = environment.get(name, "").lower()
    if text not in ("", "true", "false", "1", "0"):
        raise ValueError(f"{name} is {text!r}; it must be true or false")
    return text in ("true", "1")


def _sizes(text: str) -> tuple[tuple[int | None, int | None], ...]:
    try:
        return tuple(generation.size_of(one.strip()) for one in text.split(",") if one.strip()) or (
            (None, None),
        )
    except RequestError as error:
        raise ValueError(f"WARMUP_RESOLUTIONS: {error.message}") from None
