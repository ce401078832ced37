"""The server of images is configured by the very environment that the backend writes."""

from pathlib import Path

import pytest

from flexinfer import backends
from flexinfer.backends import diffusers
from flexinfer.image_server import settings
from flexinfer.image_server.generation import Defaults
from tests.unit.backends.keys import KEYS, a_spec, a_start


def environment(**config: object) -> dict[str, str]:
    """Return what a Model's engine is started with."""
    backend = backends.find("diffusers")
    assert backend is not None
    return {**backend.env(a_start(a_spec("diffusers", config=config))), "HOST": "127.0.0.1"}


def test_a_model_without_config_leaves_everything_to_its_pipeline() -> None:
    """It draws one image of the pipeline's own size before it is ready."""
    chosen = settings.read(environment())
    assert (chosen.path, chosen.model, chosen.port) == (Path("/models/m"), "m", 8000)
    assert chosen.defaults == Defaults()
    assert chosen.warm_up == ((None, None),)


def test_what_is_drawn_at_a_stop_may_be_given_another_time() -> None:
    """20 s is within the grace period of a Pod."""
    assert settings.read(environment()).finish_seconds == 20
    assert settings.read(environment() | {"FINISH_SECONDS": "1.5"}).finish_seconds == 1.5


@pytest.mark.parametrize("key", sorted(diffusers.VARIABLES))
def test_every_key_of_the_backend_changes_what_the_server_does(key: str) -> None:
    """None is for show."""
    value = KEYS["diffusers"][key][0]
    assert settings.read(environment(**{key: value})) != settings.read(environment())


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"MODEL": "", "MODEL_ID": ""}, "MODEL is not set"),
        ({"PORT": "http"}, "PORT is 'http'; it must be a port number"),
        ({"USE_FP16": "yes"}, "USE_FP16 is 'yes'; it must be true or false"),
        ({"FINISH_SECONDS": "-1"}, "FINISH_SECONDS is '-1'; it must be a number of seconds"),
        ({"FINISH_SECONDS": "soon"}, "FINISH_SECONDS is 'soon'; it must be a number of seconds"),
        ({"DEFAULT_GUIDANCE_SCALE": "much"}, "DEFAULT_GUIDANCE_SCALE is 'much'; it must be a number"),
        ({"WARMUP_RESOLUTIONS": "7x7"}, "WARMUP_RESOLUTIONS: size is 7x7"),
    ],
)
def test_what_is_set_wrongly_is_named(variables: dict[str, str], sentence: str) -> None:
    """As when the server is started by hand."""
    with pytest.raises(ValueError, match=sentence):
        settings.read(environment() | variables)


@pytest.mark.parametrize(
    ("index", "family", "sentence"),
    [
        (None, "", "model_index.json does not exist; the source must be the folder of a diffusers pipeline"),
        ("<html>", "", "is not the index of a diffusers pipeline"),
        ('{"_class_name": "FluxPipeline"}', "sdxl", "holds a FluxPipeline, which is not of the family sdxl"),
        ('{"_class_name": "FluxPipeline"}', "flux", ""),
        ('{"_class_name": "StableDiffusionXLPipeline"}', "", ""),
    ],
)
def test_a_source_without_a_pipeline_is_said_at_once(
    tmp_path: Path, index: str | None, family: str, sentence: str
) -> None:
    """Without the seconds that an import of diffusers takes."""
    if index is not None:
        (tmp_path / "model_index.json").write_text(index)
    chosen = settings.read(environment() | {"MODEL": str(tmp_path), "MODEL_FAMILY": family})
    if not sentence:
        settings.check(chosen)
        return
    with pytest.raises(ValueError, match=sentence):
        settings.check(chosen)


@pytest.mark.parametrize(
    ("config", "stored", "quantized"),
    [
        ({}, "{}", False),
        ({"quantization": "nf4"}, "{}", True),
        ({}, '{"quantization_config": {"load_in_4bit": true}}', True),
    ],
)
def test_weights_are_quantised_by_the_model_or_as_they_are_stored(
    config: dict[str, str], stored: str, tmp_path: Path, *, quantized: bool
) -> None:
    """Only then diffusers needs bitsandbytes."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text(stored)
    chosen = settings.read(environment(**config) | {"MODEL": str(tmp_path)})
    assert settings.is_quantized(chosen) is quantized
