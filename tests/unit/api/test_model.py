"""Model: durations, quantities, devices, and conditions of an older generation."""

import pytest

from flexinfer.api.durations import seconds, seconds_or
from flexinfer.api.model import Gpu
from flexinfer.api.quantity import milli
from tests.builders import a_condition, a_model


@pytest.mark.parametrize(
    ("text", "value"), [("5m", 300.0), ("1h30m", 5400.0), ("500ms", 0.5), ("90s", 90.0), ("0s", 0.0)]
)
def test_a_duration_is_read_in_seconds(text: str, value: float) -> None:
    """In the form of Kubernetes."""
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "1 day", "-1s", "5m ", "1.5h", "m", "9" * 400 + "h", "٣s"])
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    """The message shows the form."""
    with pytest.raises(ValueError, match="such as 90s"):
        seconds(text)
    assert seconds_or(text, "5m") == 300.0


@pytest.mark.parametrize("text", ["1.2.3Ki", "NaN", "inf", "1e400", "0x1", "1_0", "", "-", "5 ", "٣"])
def test_text_that_is_nearly_a_quantity_is_refused(text: str) -> None:
    """Each is written by some tool or some tenant."""
    with pytest.raises(ValueError, match="is not a quantity"):
        milli(text)


@pytest.mark.parametrize("quantity", ["9E", "1e99", 10**400, "-9E"])
def test_a_quantity_beyond_64_bits_is_the_largest(quantity: str | int) -> None:
    """As Kubernetes caps it: sums of it stay numbers that every reader of JSON keeps."""
    assert abs(milli(quantity)) == 2**63 - 1


@pytest.mark.parametrize(
    ("quantity", "value"),
    [("100m", 100), (2, 2000), ("1.5", 1500), ("4Gi", 4 * 2**30 * 1000), ("1k", 10**6), ("1e3", 10**6)],
)
def test_a_quantity_is_read_in_thousandths(quantity: str | int, value: int) -> None:
    """Rounded up, so that a request never shrinks."""
    assert milli(quantity) == value


def test_text_that_is_no_quantity_is_refused() -> None:
    """Ten gigs are not a quantity."""
    with pytest.raises(ValueError, match=r"quantity|could not convert"):
        milli("10 gigs")


def test_a_model_without_gpu_needs_no_device_and_has_no_group() -> None:
    """CPU only is the default."""
    assert a_model().spec.devices == 0
    assert a_model(gpu=Gpu(vendor="cpu", shared="g")).spec.group == ""
    assert a_model(gpu=Gpu(vendor="nvidia", shared="g")).spec.group == "g"
    assert a_model(gpu=Gpu(vendor="nvidia", count=2)).spec.devices == 2


def test_a_condition_of_an_older_generation_is_unknown() -> None:
    """It was decided from another spec."""
    model = a_model(generation=2, conditions=[a_condition("Placed", generation=1)])
    assert model.condition_status("Placed") == "Unknown"
    assert not model.is_true("Placed")
