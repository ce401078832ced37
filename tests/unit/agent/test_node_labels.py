"""NodeLabels: what they hold, and when they are worth a write."""

import msgspec
import pytest

from flexinfer.agent.node_labels import labels_of, worth_writing
from flexinfer.api.labels import GPU_FREE_MEMORY_ANNOTATION, GPU_VENDOR_LABEL
from flexinfer.events.nodes import Device

BIG = Device(uuid="a", architecture="sm_86", total_mb=24576, free_mb=20000)
SMALL = Device(uuid="b", architecture="sm_52", total_mb=6144, free_mb=6000)


def test_a_node_without_devices_gets_no_labels() -> None:
    """There is nothing to write."""
    assert labels_of([]) is None


def test_labels_describe_the_largest_device_and_the_sum_of_free_memory() -> None:
    """As schedulers read them."""
    labels = labels_of([BIG, SMALL])
    assert labels is not None
    assert labels.patch()["metadata"] == {
        "labels": {
            GPU_VENDOR_LABEL: "NVIDIA",
            "flexinfer.ai/gpu.arch": "sm_86",
            "flexinfer.ai/gpu.count": "2",
            "flexinfer.ai/gpu.vram": "24Gi",
        },
        "annotations": {GPU_FREE_MEMORY_ANNOTATION: "26000"},
    }


@pytest.mark.parametrize(
    ("free", "age", "worth"),
    [(20000, 600.0, False), (19500, 1.0, False), (18000, 1.0, True), (19500, 61.0, True)],
)
def test_a_small_change_is_written_once_a_minute(free: int, age: float, worth: bool) -> None:  # noqa: FBT001
    """A large one at once; without a change nothing is written."""
    previous, current = labels_of([BIG]), labels_of([msgspec.structs.replace(BIG, free_mb=free)])
    assert previous is not None
    assert current is not None
    assert worth_writing(previous, current, age) is worth
