"""What a client asks for: OpenAI's request for images, read and checked."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from flexinfer.image_server.errors import RequestError, invalid

MOST_PIXELS = 2048 * 2048
"""The largest image: four times what the largest models are trained for."""
_SEEDS = 2**62
_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")
_WHERE = re.compile(r" - at `\$\.(\w+)`$")
_UNKNOWN = re.compile(r"unknown field `(.+)`")


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One image to draw. None stands for the pipeline's own default; `seed` None is a random one."""

    prompt: str
    negative_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int | None = None
    format: str = "png"
    quality: int = 100


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What counts where a request does not say."""

    steps: int | None = None
    guidance: float | None = None
    negative_prompt: str | None = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A request: the images to draw, one after the other, and how they are answered."""

    images: tuple[Generation, ...]
    stream: bool
    size: str
    format: str


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The fields of OpenAI's request, then our own; those of OpenAI that mean nothing here are accepted with any value that does no harm."""

    prompt: Annotated[str, msgspec.Meta(min_length=1, max_length=32_000)]
    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=10)] | None = None
    size: str | None = None
    response_format: Literal["b64_json"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, msgspec.Meta(ge=0, le=3)] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: str | None = None
    quality: str | None = None
    style: str | None = None
    user: str | None = None
    negative_prompt: Annotated[str, msgspec.Meta(max_length=32_000)] | None = None
    num_inference_steps: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, lt=_SEEDS)] | None = None


def read(data: bytes, model: str, defaults: Defaults) -> Order:
    """Return what a request's body asks for. Raises RequestError (400, or 404 for another model than the one that is served)."""
    body = _decoded(data)
    if body.model is not None and body.model != model:
        message = f"the model `{body.model[:100]}` does not exist; this server has `{model}`"
        raise RequestError(404, message, "model_not_found", param="model")
    width, height = size_of(body.size)
    first = Generation(
        prompt=body.prompt,
        negative_prompt=_either(body.negative_prompt, defaults.negative_prompt),
        width=width,
        height=height,
        steps=_either(body.num_inference_steps, defaults.steps),
        guidance=_either(body.guidance_scale, defaults.guidance),
        seed=body.seed,
        format=body.output_format or "png",
        quality=_either(body.output_compression, 100) or 0,
    )
    return Order(
        images=tuple(_numbered(first, number) for number in range(body.n or 1)),
        stream=bool(body.stream),
        size=body.size or "auto",
        format=first.format,
    )


def size_of(text: str | None) -> tuple[int | None, int | None]:
    """Return width and height; None twice for the pipeline's own. Raises RequestError (400)."""
    if text is None or text == "auto":
        return None, None
    match = _SIZE.fullmatch(text)
    if match is None:
        raise invalid(
            f"size is {text[:40]!r}; it must be WIDTHxHEIGHT in pixels, such as 1024x1024, or auto", "size"
        )
    width, height = int(match[1]), int(match[2])
    if width % 8 or height % 8:
        raise invalid(f"size is {text}; width and height must be multiples of 8", "size")
    if width * height > MOST_PIXELS:
        raise invalid(
            f"size is {text}, which is more than {MOST_PIXELS} pixels; ask for a smaller image", "size"
        )
    return width, height


def _decoded(data: bytes) -> _Body:
    try:
        return msgspec.json.decode(data, type=_Body)
    except msgspec.ValidationError as error:
        text = str(error)
        unknown, where = _UNKNOWN.search(text), _WHERE.search(text)
        param = unknown[1] if unknown is not None else where[1] if where is not None else None
        raise invalid(text.replace("$.", ""), param) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"the body is not JSON: {error}") from None


def _numbered(first: Generation, number: int) -> Generation:
    """Return the image of a number: each has its own seed, so that they differ and the first is as if it were alone."""
    return (
        first if first.seed is None else msgspec.structs.replace(first, seed=(first.seed + number) % _SEEDS)
    )


def _either(value: Any, default: Any) -> Any:
    return default if value is None else value


def numbers(text: Mapping[str, str]) -> Defaults:
    """Return the defaults of an environment. Raises ValueError that names the variable."""
    return Defaults(
        steps=_number(text, "DEFAULT_NUM_INFERENCE_STEPS", int),
        guidance=_number(text, "DEFAULT_GUIDANCE_SCALE", float),
        negative_prompt=text.get("DEFAULT_NEGATIVE_PROMPT") or None,
    )


def _number(text: Mapping[str, str], name: str, kind: type[Any]) -> Any:
    value = text.get(name, "")
    try:
        return kind(value) if value else None
    except ValueError:
        raise ValueError(f"{name} is {value!r}; it must be a number") from None
