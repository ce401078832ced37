"""Notes: what the agent writes on its own Node for people and for schedulers, and when it is worth a write. Pure.

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
from typing import Any

import msgspec

from flexinfer.api.labels import GPU_FREE_MEMORY_ANNOTATION, GPU_VENDOR_LABEL
from flexinfer.events.nodes import Device

INTERVAL_SECONDS = 60.0
_SHARE = 0.05
_PREFIX = GPU_VENDOR_LABEL.removesuffix("vendor")


class NodeLabels(msgspec.Struct, frozen=True, kw_only=True):
    """Labels and the sum of free memory, in MB."""

    labels: dict[str, str]
    free_mb: int

    def patch(self) -> dict[str, Any]:
        """Return the merge patch that writes them."""
        annotations = {GPU_FREE_MEMORY_ANNOTATION: str(self.free_mb)}
        return {"metadata": {"labels": self.labels, "annotations": annotations}}


def labels_of(devices: Sequence[Device]) -> NodeLabels | None:
    """Return what to note of a node's devices; None when it has none."""
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


def worth_writing(former: NodeLabels | None, now: NodeLabels, age: float) -> bool:
    """Tell whether notes differ enough from those written `age` seconds ago, or are due."""
    if former is None or former.labels != now.labels:
        return True
    moved = abs(former.free_mb - now.free_mb)
    return moved > _SHARE * max(former.free_mb, 1) or (age >= INTERVAL_SECONDS and moved > 0)
