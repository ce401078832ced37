"""The pipeline of diffusers: any folder with a model_index.json that draws images from a prompt. It imports torch, which takes seconds.

Nothing here downloads: engine Pods reach no hub. Code of a repository is not run.
"""

import inspect
import io
import json
import logging
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from flexinfer.image_server.generation import Generation
from flexinfer.image_server.pipeline import BrokenError, InvalidError, MemoryFullError, Stage, Step
from flexinfer.image_server.schedulers import chosen
from flexinfer.image_server.settings import Settings
from flexinfer.image_server.weights import not_json, stored_type

log = logging.getLogger(__name__)
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_COMPUTED = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_DENOISERS = ("transformer", "unet")
_WARM_UP_STEPS = 2
_MOST_STEPS = 1000
"""What a scheduler is trained with that does not say: the default of all of diffusers."""


class Diffusion:
    """A loaded pipeline. Its methods run in one thread, one at a time."""

    def __init__(self, pipe: Any) -> None:
        self._pipe, self._most_steps = pipe, _most_steps(pipe)
        self._takes = frozenset(inspect.signature(pipe.__call__).parameters)
        if "prompt" not in self._takes:
            raise ValueError(
                f"{type(pipe).__name__} draws nothing from a prompt; use a text-to-image pipeline"
            )

    def draw(self, generation: Generation, step: Step) -> bytes:
        """Return an image in the format that was asked for. Raises InvalidError, MemoryFullError, BrokenError, and what `step` raises."""
        arguments = self._arguments(generation)
        if "callback_on_step_end" in self._takes:
            arguments["callback_on_step_end"] = _callback(step)
        try:
            with torch.inference_mode():
                image = self._pipe(**arguments).images[0]
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise MemoryFullError(
                f"the GPU has no room for this image; ask for a smaller one ({_line(error)})"
            ) from error
        except torch.AcceleratorError as error:
            raise BrokenError(_line(error)) from error
        except ValueError as error:
            raise InvalidError(_line(error)) from error
        return _encoded(image, generation)

    def _arguments(self, generation: Generation) -> dict[str, Any]:
        """Return the call's arguments. What the pipeline does not take is refused, as it would have no effect, and steps that its scheduler lacks."""
        if generation.steps is not None and generation.steps > self._most_steps:
            kind = type(self._pipe.scheduler).__name__
            raise InvalidError(
                f"num_inference_steps is {generation.steps}, but {kind} has {self._most_steps}; ask for at most so many",
                "num_inference_steps",
            )
        arguments = {
            "negative_prompt": generation.negative_prompt,
            "width": generation.width,
            "height": generation.height,
            "num_inference_steps": generation.steps,
            "guidance_scale": generation.guidance,
        }
        selection = {name: value for name, value in arguments.items() if value is not None}
        unknown = [name for name in selection if name not in self._takes]
        if unknown:
            raise InvalidError(f"{type(self._pipe).__name__} takes no {', '.join(unknown)}; leave it out")
        if generation.seed is not None:
            selection["generator"] = torch.Generator("cpu").manual_seed(generation.seed)
        return {"prompt": generation.prompt, **selection}


def load(settings: Settings, stage: Stage) -> Diffusion:
    """Load the pipeline of a folder, move it to its device, and draw one image of each size of the warm-up. Raises what diffusers raises."""
    device = _device(settings.device)
    if settings.quantization and device == "cpu":
        raise ValueError(
            f"QUANTIZATION is {settings.quantization}, but bitsandbytes quantises on a GPU alone, and DEVICE is cpu; unset it"
        )
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    stage("reading the weights")
    pipe = _read(settings, device)
    if settings.scheduler:
        kind = chosen(pipe.scheduler.compatibles, settings.scheduler)
        pipe.scheduler = kind.from_config(pipe.scheduler.config)
    _check_default(settings, pipe)
    pipe.set_progress_bar_config(disable=True)
    stage(f"moving the pipeline to {device}")
    _move(pipe, settings, device)
    pipeline = Diffusion(pipe)
    for width, height in settings.warm_up:
        stage(f"warming up at {width}x{height}" if width else "warming up")
        warm = Generation(prompt="warm-up", width=width, height=height, steps=_WARM_UP_STEPS)
        pipeline.draw(warm, lambda _step, _steps: None)
    return pipeline


def _read(settings: Settings, device: str) -> Any:
    """Return the pipeline of a folder. Raises ValueError that names a file which is no JSON, whose reader does not, and what diffusers raises."""
    try:
        return _class(settings).from_pretrained(
            settings.path, local_files_only=True, **_how(settings, device)
        )
    except json.JSONDecodeError as error:
        raise ValueError(not_json(settings.path) or _line(error)) from error


def _move(pipe: Any, settings: Settings, device: str) -> None:
    """Move a pipeline to its device, whole or each part while it is in use."""
    if settings.offload and device == "cpu":
        log.warning("USE_CPU_OFFLOAD is ignored: the pipeline is in the CPU's memory, since DEVICE is cpu")
    if settings.offload and device != "cpu":
        pipe.enable_model_cpu_offload(device=device)
    else:  # also one that was quantised: bitsandbytes has moved the parts that it quantised, and no others
        pipe.to(device)


def _most_steps(pipe: Any) -> int:
    """Return how many steps a pipeline's scheduler can make: those it was trained with.

    One that spaces its steps from the first on (`leading`) shifts them by `steps_offset`, and so leaves its last ones out; diffusers lets more
    through, and fails with an IndexError in the middle of the image or draws with steps that the model does not know.
    """
    config = pipe.scheduler.config
    shift = config.get("steps_offset", 0) if config.get("timestep_spacing") == "leading" else 0
    return int(config.get("num_train_timesteps", _MOST_STEPS)) - int(shift)


def _check_default(settings: Settings, pipe: Any) -> None:
    """Raise ValueError if a request that names no steps could not be drawn."""
    steps, most = settings.defaults.steps, _most_steps(pipe)
    if steps is not None and steps > most:
        kind = type(pipe.scheduler).__name__
        raise ValueError(
            f"DEFAULT_NUM_INFERENCE_STEPS is {steps}, but {kind} of this pipeline has {most}; lower it"
        )


def _device(device: str) -> str:
    """Return the device to compute on. Raises RuntimeError if a GPU was requested and there is none: the CPU would take hours."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"DEVICE is cuda, but torch {torch.__version__} sees no GPU; use an image whose torch is built for this GPU and its driver"
        )
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _class(settings: Settings) -> Any:
    return diffusers.AutoPipelineForText2Image if settings.text_to_image else diffusers.DiffusionPipeline


def _how(settings: Settings, device: str) -> dict[str, Any]:
    """Return the arguments of from_pretrained: the type of the weights, which of two sets of files, and how they are quantised."""
    files = _weights(settings.path)
    halves = [file for file in files if ".fp16." in file.name]
    halved = bool(halves) and (settings.half or len(halves) == len(files))
    kind = torch.float16 if settings.half else _stored(files, device)
    arguments: dict[str, Any] = {"dtype": kind, **({"variant": "fp16"} if halved else {})}
    if settings.quantization:
        arguments["quantization_config"] = _quantization(settings, kind)
    return arguments


def _weights(folder: Path) -> list[Path]:
    """Return the files with the weights of what denoises, the largest part of a pipeline; the largest file first."""
    files = [file for part in _DENOISERS for file in (folder / part).glob("*.safetensors")]
    return sorted(files, key=lambda file: -file.stat().st_size)


def _stored(files: list[Path], device: str) -> Any:
    """Return the type that the weights are stored in; float32 where it is not known, and for float16 on a CPU, which computes that slowly."""
    kind = _DTYPES.get(stored_type(files[0]) if files else "", torch.float32)
    return torch.float32 if device == "cpu" and kind is torch.float16 else kind


def _quantization(settings: Settings, kind: Any) -> Any:
    """Return how bitsandbytes quantises what denoises and the large text encoders while they are read."""
    compute_type = _COMPUTED.get(settings.compute_dtype, kind)
    four = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": compute_type}
    bits, how = ("4bit", four) if settings.quantization == "nf4" else ("8bit", {"load_in_8bit": True})
    parts = [
        part for part in (*_DENOISERS, "text_encoder_2", "text_encoder_3") if (settings.path / part).is_dir()
    ]
    return diffusers.PipelineQuantizationConfig(
        quant_backend=f"bitsandbytes_{bits}", quant_kwargs=how, components_to_quantize=parts
    )


def _callback(step: Step) -> Any:
    def each(pipe: Any, number: int, _timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
        step(number + 1, pipe.num_timesteps)
        return values

    return each


def _encoded(image: Any, generation: Generation) -> bytes:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, generation.format.upper(), quality=generation.quality)
    return buffer.getvalue()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:500]
