"""NodeLabels: what the agent writes on its Node for people and schedulers, and when it does so. Pure.

```yaml
metadata:
  labels:
    flexinfer.ai/gpu.vendor: NVIDIA
    flexinfer.ai/gpu.arch: sm_86
    flexinfer.ai/gpu.count: "2"
    flexinfer.ai/gpu.vram: 24Gi            # of the largest
  annotations:
    flexinfer.ai/gpu-free-memory: "23241"  # MiB, of the device with the most
    flexinfer.ai/gpu-free-memory-by-device: '{"GPU-8f1c":23241,"GPU-b2d0":20110}'
```

The sum over all devices stands nowhere: what does not fit on one device does not fit on two because their sum is larger.
"""

from collections.abc import Mapping, Sequence

import msgspec

from flexinfer.api.durations import back_off
from flexinfer.api.labels import (
    GPU_FREE_MEMORY_ANNOTATION,
    GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION,
    GPU_VENDOR_LABEL,
)
from flexinfer.events.nodes import Device

INTERVAL_SECONDS = 60.0
"""The Node is written at most this often: each write is an event for everybody who watches nodes."""
_FIRST_RETRY, _LONGEST_RETRY = 2.0, 64.0
"""Seconds that a write which failed waits for its first repetition, doubling."""
_SIGNIFICANT_SHARE, _SIGNIFICANT_MB = 0.05, 16
"""A change of a device's free memory is written if it is larger than both."""
_PREFIX = GPU_VENDOR_LABEL.removesuffix("vendor")


class NodeLabels(msgspec.Struct, frozen=True, kw_only=True):
    """Labels (None: to be removed), and the free memory of each healthy device in MiB, by uuid."""

    labels: dict[str, str | None]
    free_mb: Mapping[str, int]

    @property
    def freest_mb(self) -> int:
        """Return the free memory of the device with the most; 0 without any."""
        return max(self.free_mb.values(), default=0)

    def patch(self) -> dict[str, object]:
        """Return the merge patch that writes them."""
        annotations = {
            GPU_FREE_MEMORY_ANNOTATION: str(self.freest_mb),
            GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION: msgspec.json.encode(self.free_mb, order="sorted").decode(),
        }
        return {"metadata": {"labels": self.labels, "annotations": annotations}}


def labels_of(devices: Sequence[Device]) -> NodeLabels | None:
    """Return the labels of a node with these devices; None without any.

    The memory of a device that is not healthy is not known, so it is not free. The total is rounded to what the card
    is sold as: 24564 MiB are 24Gi.
    """
    if not devices:
        return None
    largest = max(devices, key=lambda device: (device.total_mb, device.uuid))
    labels = {
        "vendor": largest.vendor.upper(),
        "arch": largest.architecture,
        "count": str(len(devices)),
        "vram": f"{round(largest.total_mb / 1024)}Gi" if largest.total_mb else "",
    }
    return NodeLabels(
        labels={f"{_PREFIX}{name}": value for name, value in labels.items() if value},
        free_mb={device.uuid: device.free_mb for device in devices if device.healthy},
    )


def without_devices(previous: NodeLabels) -> NodeLabels:
    """Return what replaces the labels of a node whose devices are all gone."""
    labels = dict.fromkeys(previous.labels) | {f"{_PREFIX}count": "0"}
    return NodeLabels(labels=labels, free_mb={})


def worth_writing(previous: NodeLabels | None, current: NodeLabels, age: float) -> bool:
    """Return whether labels differ enough from those written `age` seconds ago, and those are old enough."""
    if previous is None:
        return True
    if age < INTERVAL_SECONDS:
        return False
    if previous.labels != current.labels or previous.free_mb.keys() != current.free_mb.keys():
        return True
    return any(_is_significant(before, current.free_mb[uuid]) for uuid, before in previous.free_mb.items())


def _is_significant(before: int, now: int) -> bool:
    change = abs(before - now)
    return change > _SIGNIFICANT_MB and change > _SIGNIFICANT_SHARE * before


def retry_seconds(failures: int) -> float:
    """Return how long to wait after so many writes in a row have failed."""
    return back_off(_FIRST_RETRY, failures - 1, _LONGEST_RETRY) if failures else 0.0
