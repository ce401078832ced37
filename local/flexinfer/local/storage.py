"""The local StorageClass, the default, whose PVCs are folders of a node, and the PVC that every instance starts with."""

from typing import Any, Final

STORAGE_CLASS: Final = "flexinfer-local"
PROVISIONER: Final = "flexinfer.ai/local"
CLASS: Final[dict[str, Any]] = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": STORAGE_CLASS,
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": PROVISIONER,
    "reclaimPolicy": "Retain",
    "volumeBindingMode": "WaitForFirstConsumer",
}
CLAIM, NAMESPACE = "models", "default"
MODELS_CLAIM: Final[dict[str, Any]] = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": CLAIM, "namespace": NAMESPACE},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": STORAGE_CLASS,
        "resources": {"requests": {"storage": "100Gi"}},
    },
}
