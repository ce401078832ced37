"""NodeLabels: what they hold, and when they are worth a write."""

import msgspec
import pytest

from flexinfer.agent.node_labels import labels_of, retry_seconds, without_devices, worth_writing
from flexinfer.api.labels import (
    GPU_FREE_MEMORY_ANNOTATION,
    GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION,
    GPU_VENDOR_LABEL,
)
from flexinfer.events.nodes import Device

BIG = Device(uuid="a", architecture="sm_86", total_mb=24576, free_mb=20000)
SMALL = Device(uuid="b", architecture="sm_52", total_mb=6144, free_mb=6000)


def test_a_node_without_devices_gets_no_labels() -> None:
    """There is nothing to write."""
    assert labels_of([]) is None


def test_labels_describe_the_largest_device_and_annotations_the_free_memory_of_each() -> None:
    """What a scheduler asks for is the most that one device has: a sum fits nowhere."""
    labels = labels_of([BIG, SMALL])
    assert labels is not None
    assert labels.patch()["metadata"] == {
        "labels": {
            GPU_VENDOR_LABEL: "NVIDIA",
            "flexinfer.ai/gpu.arch": "sm_86",
            "flexinfer.ai/gpu.count": "2",
            "flexinfer.ai/gpu.vram": "24Gi",
        },
        "annotations": {
            GPU_FREE_MEMORY_ANNOTATION: "20000",
            GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION: '{"a":20000,"b":6000}',
        },
    }


@pytest.mark.parametrize(
    ("free", "age", "worth"),
    [
        pytest.param(20000, 600.0, False, id="the same"),
        pytest.param(19500, 61.0, False, id="2.5 %"),
        pytest.param(18000, 59.0, False, id="10 %, but within the minute"),
        pytest.param(18000, 61.0, True, id="10 %, a minute later"),
    ],
)
def test_a_change_is_written_if_it_is_large_and_at_most_once_a_minute(
    free: int,
    age: float,
    worth: bool,  # noqa: FBT001
) -> None:
    """Without a change nothing is written."""
    previous, current = labels_of([BIG]), labels_of([msgspec.structs.replace(BIG, free_mb=free)])
    assert previous is not None
    assert current is not None
    assert worth_writing(previous, current, age) is worth


@pytest.mark.parametrize(("before", "now"), [(40, 42), (40, 56), (0, 16), (0, 2)])
def test_noise_on_a_full_device_is_not_written(before: int, now: int) -> None:
    """2 MB of 40 MB are 5 %, and nothing."""
    previous, current = (labels_of([msgspec.structs.replace(BIG, free_mb=free)]) for free in (before, now))
    assert previous is not None
    assert current is not None
    assert not worth_writing(previous, current, 600.0)


def test_a_change_of_any_device_is_written() -> None:
    """Also of one that is not the freest, and of which devices there are."""
    two, less, one = (
        labels_of([BIG, msgspec.structs.replace(SMALL, free_mb=6000)]),
        labels_of([BIG, msgspec.structs.replace(SMALL, free_mb=100)]),
        labels_of([BIG, msgspec.structs.replace(SMALL, healthy=False)]),
    )
    assert two is not None
    assert less is not None
    assert one is not None
    assert worth_writing(two, less, 61.0)
    assert worth_writing(two, one, 61.0)
    assert not worth_writing(two, two, 61.0)


def test_the_memory_of_an_unhealthy_device_is_not_free() -> None:
    """What it holds is not known, whatever was last read of it."""
    labels = labels_of([BIG, msgspec.structs.replace(SMALL, healthy=False)])
    lost = labels_of([Device(uuid="a", healthy=False)])
    assert labels is not None
    assert lost is not None
    assert labels.free_mb == {"a": 20000}
    assert (lost.freest_mb, "flexinfer.ai/gpu.vram" in lost.labels) == (0, False)


def test_labels_of_devices_that_are_gone_are_removed() -> None:
    """A scheduler must not send anything to them."""
    written = labels_of([BIG])
    assert written is not None
    gone = without_devices(written)
    assert gone.patch() == {
        "metadata": {
            "labels": {
                GPU_VENDOR_LABEL: None,
                "flexinfer.ai/gpu.arch": None,
                "flexinfer.ai/gpu.count": "0",
                "flexinfer.ai/gpu.vram": None,
            },
            "annotations": {
                GPU_FREE_MEMORY_ANNOTATION: "0",
                GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION: "{}",
            },
        }
    }


def test_a_write_that_fails_is_repeated_less_and_less_often() -> None:
    """At most about once a minute in the end."""
    assert [retry_seconds(failures) for failures in (0, 1, 2, 3, 6, 5000)] == [0, 2, 4, 8, 64, 64]
