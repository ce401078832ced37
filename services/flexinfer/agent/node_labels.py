"""NodeLabels: what the agent writes on its Node for people and schedulers, and when it does so. Pure.

```yaml
metadata:
  labels:
    flexinfer.ai/gpu.vendor: NVIDIA
    flexinfer.ai/gpu.arch: sm_86
    flexinfer.ai/gpu.count: "2"
    flexinfer.ai/gpu.vram: 24Gi            # of the largest
  annotations:
    flexinfer.ai/gpu-free-memory: "46482"  # MB, all devices together
```
"""

from collections.abc import Sequence

import msgspec

from flexinfer.api.labels import GPU_FREE_MEMORY_ANNOTATION, GPU_VENDOR_LABEL
from flexinfer.events.nodes import Device

INTERVAL_SECONDS = 60.0
"""A small change of the free memory is written at most this often."""
_SIGNIFICANT_SHARE = 0.05
"""A change of the free memory by more than this share is written at once."""
_PREFIX = GPU_VENDOR_LABEL.removesuffix("vendor")


class NodeLabels(msgspec.Struct, frozen=True, kw_only=True):
    """Labels, and the sum of free memory in MB."""

    labels: dict[str, str]
    free_mb: int

    def patch(self) -> dict[str, object]:
        """Return the merge patch that writes them."""
        annotations = {GPU_FREE_MEMORY_ANNOTATION: str(self.free_mb)}
        return {"metadata": {"labels": self.labels, "annotations": annotations}}


def labels_of(devices: Sequence[Device]) -> NodeLabels | None:
    """Return the labels of a node with these devices; None without any."""
    if not devices:
        return None
    largest = max(devices, key=lambda device: (device.total_mb, device.uuid))
    labels = {
        "vendor": largest.vendor.upper(),
        "arch": largest.architecture,
        "count": str(len(devices)),
        "vram": f"{largest.total_mb // 1024}Gi",
    }
    return NodeLabels(
        labels={f"{_PREFIX}{name}": value for name, value in labels.items() if value},
        free_mb=sum(device.free_mb for device in devices if device.healthy),
    )


def worth_writing(previous: NodeLabels | None, current: NodeLabels, age: float) -> bool:
    """Tell whether labels differ enough from those written `age` seconds ago, or are due."""
    if previous is None or previous.labels != current.labels:
        return True
    change = abs(previous.free_mb - current.free_mb)
    significant = change > _SIGNIFICANT_SHARE * max(previous.free_mb, 1)
    return significant or (age >= INTERVAL_SECONDS and change > 0)
