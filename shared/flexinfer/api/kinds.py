"""Kinds of Kubernetes objects: where each is in the API, and the struct that its JSON is read into. Pure."""

from typing import Generic, TypeVar

import msgspec

from flexinfer.api import kube, resource_api
from flexinfer.api.groupversion import (
    API_VERSION,
    GROUP_KIND,
    GROUP_PLURAL,
    KIND,
    LEASE_KIND,
    LEASE_PLURAL,
    PLURAL,
)
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import SharedGroup

T = TypeVar("T")


class Kind(msgspec.Struct, Generic[T], frozen=True):
    """A kind of object."""

    api_version: str
    name: str
    plural: str
    type: type[T]
    namespaced: bool = True
    optional: bool = False
    """Whether some API servers do not serve it: there are none of it there."""

    @property
    def root(self) -> str:
        """The path of its group and version."""
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"


MODELS: Kind[Model] = Kind(API_VERSION, KIND, PLURAL, Model)
SHARED_GROUPS: Kind[SharedGroup] = Kind(API_VERSION, GROUP_KIND, GROUP_PLURAL, SharedGroup)
GPU_LEASES: Kind[GPULease] = Kind(API_VERSION, LEASE_KIND, LEASE_PLURAL, GPULease)
PODS: Kind[kube.Pod] = Kind("v1", "Pod", "pods", kube.Pod)
JOBS: Kind[kube.Job] = Kind("batch/v1", "Job", "jobs", kube.Job)
CLAIMS: Kind[kube.Claim] = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", kube.Claim)
STORAGE_CLASSES: Kind[kube.StorageClass] = Kind(
    "storage.k8s.io/v1", "StorageClass", "storageclasses", kube.StorageClass, namespaced=False
)
SERVICES: Kind[kube.Service] = Kind("v1", "Service", "services", kube.Service)
LEASES: Kind[kube.Lease] = Kind("coordination.k8s.io/v1", "Lease", "leases", kube.Lease)
NODES: Kind[kube.Node] = Kind("v1", "Node", "nodes", kube.Node, namespaced=False)
RESOURCE_SLICES: Kind[resource_api.ResourceSlice] = Kind(
    "resource.k8s.io/v1",
    "ResourceSlice",
    "resourceslices",
    resource_api.ResourceSlice,
    namespaced=False,
    optional=True,
)
RESOURCE_CLAIMS: Kind[resource_api.ResourceClaim] = Kind(
    "resource.k8s.io/v1", "ResourceClaim", "resourceclaims", resource_api.ResourceClaim, optional=True
)
EVENTS: Kind[msgspec.Raw] = Kind("v1", "Event", "events", msgspec.Raw)
"""As they are written: nothing of them is read."""
CLAIM_EVENTS: Kind[kube.Event] = Kind("v1", "Event", "events", kube.Event)
"""As they are read: what others wrote on PVCs."""
