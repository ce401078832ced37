"""Settings: the environment as typed fields, image overrides for every backend, and a warning for what nothing reads."""

import msgspec
import pytest

from flexinfer import backends
from flexinfer.launcher.start_settings import settings_of as launch_settings
from flexinfer.prefetcher.perform import settings_of as prefetch_settings
from flexinfer.runtime.settings import (
    OTHER_VARIABLES,
    Settings,
    SettingsError,
    image_variables,
    load,
    pod_defaults_of,
    warnings,
)
from flexinfer.sources.pod import PodDefaults


def test_pull_secrets_are_names_between_commas() -> None:
    """Spaces and empty names do not count."""
    settings = load({"FLEXINFER_PULL_SECRETS": " house, ,other ", "FLEXINFER_RUNTIME_CLASS": "kata"})
    assert pod_defaults_of(settings) == PodDefaults(pull_secrets=("house", "other"), runtime_class="kata")
    assert pod_defaults_of(load({})) == PodDefaults()


def test_an_empty_environment_is_the_defaults() -> None:
    """Nothing has to be set."""
    assert load({}) == Settings()
    assert warnings({"PATH": "/bin"}) == ()


def test_a_variable_is_the_field_of_its_name() -> None:
    """Typed."""
    settings = load({"FLEXINFER_DRAIN_SECONDS": "5", "FLEXINFER_NATS_REPLICAS": "3", "FLEXINFER_BUILD": "b"})
    assert (settings.drain_seconds, settings.nats_replicas, settings.build) == (5.0, 3, "b")


def test_a_mirror_of_the_hub_is_read_from_the_hubs_own_variable_too() -> None:
    """Which users of a mirror have set; FlexInfer's own wins."""
    assert load({"HF_ENDPOINT": "http://mirror"}).hf_endpoint == "http://mirror"
    both = {"HF_ENDPOINT": "http://mirror", "FLEXINFER_HF_ENDPOINT": "http://own"}
    assert load(both).hf_endpoint == "http://own"


@pytest.mark.parametrize(
    ("variable", "value", "required"),
    [
        ("FLEXINFER_HEALTH_PORT", "http", "a TCP port, a whole number from 0 to 65535, is required"),
        ("FLEXINFER_PROXY_PORT", "70000", "a TCP port, a whole number from 0 to 65535, is required"),
        ("FLEXINFER_EXTENDER_PORT", "-1", "a TCP port, a whole number from 0 to 65535, is required"),
        ("FLEXINFER_NATS_REPLICAS", "0", "a whole number from 1 to 5 is required"),
        ("FLEXINFER_QUEUE_SECONDS", "5s", "a number of seconds from 0 to 31536000 is required"),
        ("FLEXINFER_DRAIN_SECONDS", "nan", "a number of seconds from 0 to 31536000 is required"),
        ("FLEXINFER_MEMORY_FREE_SECONDS", "1e30", "a number of seconds from 0 to 31536000 is required"),
        ("FLEXINFER_LOADING_SECONDS", "0", "a number of seconds above 0, at most 31536000, is required"),
        ("FLEXINFER_RELIST_SECONDS", "-1", "a number of seconds above 0, at most 31536000, is required"),
        ("FLEXINFER_BODY_LIMIT_MIB", "0", "a whole number of MiB from 1 to 65536 is required"),
        ("FLEXINFER_LOG_LEVEL", "loud", "debug, info, warning or error is required"),
        ("FLEXINFER_OLLAMA_REGISTRY", "mirror", "a URL that begins with http:// or https:// is required"),
        ("HF_ENDPOINT", "mirror:80", "a URL that begins with http:// or https:// is required"),
    ],
)
def test_a_bad_value_names_its_variable(variable: str, value: str, required: str) -> None:
    """And what it should be; one that a component could only fail with later is refused too."""
    with pytest.raises(SettingsError) as refused:
        load({variable: value})
    assert str(refused.value) == f"{variable} is {value!r}: {required}; correct it or unset it"


def test_every_value_that_can_be_bad_says_what_is_required() -> None:
    """A field that is not text has limits, with words for them."""
    for field in msgspec.structs.fields(Settings):
        if field.type is not str and field.name != "images":
            (meta,) = field.type.__metadata__
            assert meta.description.endswith("is required")


def test_an_empty_variable_is_the_default() -> None:
    """As a ConfigMap or a unit file leaves it; only of the origins, where empty means none, it is a value."""
    empty = {f"FLEXINFER_{field.upper()}": " " for field in Settings.__struct_fields__}
    assert load(empty) == Settings(cors_origins="")
    assert load({"FLEXINFER_IMAGE_VLLM": ""}).images == {}


def test_space_around_a_value_does_not_count() -> None:
    """Nor does the case of a level."""
    settings = load(
        {"FLEXINFER_PROXY_PORT": " 8080 ", "FLEXINFER_LOG_LEVEL": "DEBUG\n", "HF_ENDPOINT": " http://m "}
    )
    assert (settings.proxy_port, settings.log_level, settings.hf_endpoint) == (8080, "debug", "http://m")


@pytest.mark.parametrize("name", backends.names())
def test_the_image_of_every_backend_can_be_replaced(name: str) -> None:
    """For all vendors and for one, in launcher and prefetcher alike."""
    backend = backends.find(name)
    assert backend is not None
    vendor = backend.vendors[-1]
    variable = f"FLEXINFER_IMAGE_{name.upper().replace('-', '_')}"
    environment = {variable: "mine:1", f"{variable}_{vendor.upper()}": "mine:2"}
    settings = load(environment)
    assert warnings(environment) == ()
    for images in (launch_settings(settings).images, prefetch_settings(settings).images):
        assert backend.image(vendor, images) == "mine:2"
        assert {backend.image(other, images) for other in backend.vendors[:-1]} <= {"mine:1"}


def test_the_image_for_an_architecture_is_a_setting() -> None:
    """Of a backend that exists; launcher and prefetcher read both of them from one ConfigMap."""
    environment = {"FLEXINFER_IMAGE_VLLM_GFX1100": "mine:1", "FLEXINFER_IMAGE_VLLM_OMNI_SM_5": "mine:2"}
    assert warnings(environment) == ()
    assert load(environment).images == {"vllm_gfx1100": "mine:1", "vllm_omni_sm_5": "mine:2"}
    assert len(warnings({"FLEXINFER_IMAGE_VLM_GFX1100": "x", "FLEXINFER_IMAGE_VLLM_XFG1": "x"})) == 2


def test_a_variable_that_names_an_engines_program_causes_no_warning() -> None:
    """The local node reads it; one that names no engine is a typing error."""
    assert warnings({"FLEXINFER_PROGRAM_OLLAMA": "/opt/ollama"}) == ()
    (warning,) = warnings({"FLEXINFER_PROGRAM_OLAMA": "/opt/ollama"})
    assert "did you mean FLEXINFER_PROGRAM_OLLAMA?" in warning


def test_the_own_image_is_no_image_of_a_backend() -> None:
    """FLEXINFER_IMAGE is a setting, what begins with it and an underscore is an override."""
    settings = load({"FLEXINFER_IMAGE": "ours"})
    assert (settings.image, dict(settings.images)) == ("ours", {})


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("FLEXINFER_DRIAN_SECONDS", "FLEXINFER_DRAIN_SECONDS"),
        ("FLEXINFER_IMAGE_VLM_AMD", "FLEXINFER_IMAGE_VLLM_AMD"),
        ("FLEXINFER_IMAGES", "FLEXINFER_IMAGE"),
        ("FLEXINFER_IMAGE_LLAMACP", "FLEXINFER_IMAGE_LLAMACPP"),
    ],
)
def test_an_unknown_variable_is_named_with_the_nearest_known_one(variable: str, nearest: str) -> None:
    """Nothing is ignored in silence."""
    assert warnings({variable: "5"}) == (
        f"{variable} is not a setting and is ignored; did you mean {nearest}?",
    )
    assert load({variable: "5"}).drain_seconds == Settings().drain_seconds


def test_a_variable_like_no_other_is_to_be_removed() -> None:
    """There is no nearest one."""
    assert warnings({"FLEXINFER_QQQQQQQQQQQQQQQQQQQQQQ": ""}) == (
        "FLEXINFER_QQQQQQQQQQQQQQQQQQQQQQ is not a setting and is ignored; remove it",
    )


def test_what_is_read_elsewhere_causes_no_warning() -> None:
    """Nor does any image override."""
    assert warnings(dict.fromkeys((*OTHER_VARIABLES, *image_variables()), "x")) == ()
