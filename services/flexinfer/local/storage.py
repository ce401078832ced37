"""The local StorageClass: claims of it are folders of a node. Said once for who offers it, who serves it and who asks for it."""

from typing import Any, Final

STORAGE_CLASS: Final = "flexinfer-local"
PROVISIONER: Final = "flexinfer.ai/local"
CLASS: Final[dict[str, Any]] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {"name": STORAGE_CLASS},
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Retain",
    "volumeBindingMode": "WaitForFirstConsumer",
}
