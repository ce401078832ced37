"""Labels, annotations, finalizers, scheduling gates and taints that others can see. Pure.

The reference page `docs/reference/labels-and-annotations.md` describes each.
"""

from collections.abc import Mapping
from types import MappingProxyType

# Labels and annotations of children.
MODEL_LABEL = "flexinfer.ai/model"
MODEL_UID_LABEL = "flexinfer.ai/model-uid"
TURN_LABEL = "flexinfer.ai/turn"
FETCHES_LABEL = "flexinfer.ai/fetches"
RECLAIM_LABEL = "flexinfer.ai/reclaim"
"""On the PVC of a cache: what happens to it when its Model is deleted, Retain or Delete."""
"""`true` on Pods that download weights: network policies allow egress for no others."""
TEMPLATE_ANNOTATION = "flexinfer.ai/template"
"""Hash of the Pod template as the launcher rendered it: changes are found without comparing defaults."""
GENERATION_ANNOTATION = "flexinfer.ai/generation"
DEVICES_ANNOTATION = "flexinfer.ai/devices"
"""On an engine's Pod: the uuids of the devices that it was placed on, separated by commas. The local node gives it these."""
FILE_PREFIX = "flexinfer.ai/file."
"""On an engine's Pod: `flexinfer.ai/file.<name>` holds a small file that its backend gives it."""
KEPT_ANNOTATION = "flexinfer.ai/kept-at"
"""On an engine's Pod: when it was last kept although it was to be deleted. The write keeps off a DELETE that is still on its way."""
SOURCE_ANNOTATION = "flexinfer.ai/source"
NAME_LABEL = "app.kubernetes.io/name"
INSTANCE_LABEL = "app.kubernetes.io/instance"
COMPONENT_LABEL = "app.kubernetes.io/component"
PART_OF_LABEL = "app.kubernetes.io/part-of"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"

LITELLM_PREFIX = "litellm.flexinfer.ai"
SERVICE_LABELS_ANNOTATION = "flexinfer.ai/service-labels"
GPU_FREE_MEMORY_ANNOTATION = "flexinfer.ai/gpu-free-memory"
GPU_FREE_MEMORY_BY_DEVICE_ANNOTATION = "flexinfer.ai/gpu-free-memory-by-device"
GPU_VENDOR_LABEL = "flexinfer.ai/gpu.vendor"

RUNNING_FINALIZER = "flexinfer.ai/running"
HELD_FINALIZER = "flexinfer.ai/held"
"""On a SharedGroup: it is deleted once no Model holds its devices."""
GATE_PREFIX = "flexinfer.ai/turn-"
"""A Pod is created with the gate `flexinfer.ai/turn-<n>`, which is removed when its turn is confirmed."""

ALLOW_UNSUPPORTED_ANNOTATION = "flexinfer.ai/allow-unsupported-gpu"
"""On a Model: why its engine may run on GPUs that its backend is said not to run on."""

VRAM_ESTIMATE_ANNOTATION = "flexinfer.ai/gpu.vram-estimate-mb"
"""On a Pod that is none of FlexInfer's: the memory that it needs on all its GPUs together, in MiB, for the scheduler extender."""

GPU_RESOURCES: Mapping[str, str] = MappingProxyType({"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"})
SELECTED_NODE_ANNOTATION = "volume.kubernetes.io/selected-node"
"""Kubernetes' own, on a PVC: the node that its volume was made for (StorageClasses that bind at the first Pod)."""
DEFAULT_CLASS_ANNOTATION = "storageclass.kubernetes.io/is-default-class"
"""Kubernetes' own, on the StorageClass that PVCs without one are given."""
OUT_OF_SERVICE_TAINT = "node.kubernetes.io/out-of-service"
