"""The objects of the API group resource.k8s.io (DRA), reduced to the fields that FlexInfer reads. Pure."""

from flexinfer.api.base import Resource
from flexinfer.api.kube import Taint
from flexinfer.api.metadata import Metadata
from flexinfer.api.quantity import Quantity


class DeviceAttribute(Resource, frozen=True, kw_only=True):
    """One attribute of a device, where it is a text; others are empty."""

    string: str = ""


class CapacityRange(Resource, frozen=True, kw_only=True):
    """The amounts of a capacity that a claim may take."""

    min: Quantity = 0
    max: Quantity | None = None
    step: Quantity | None = None


class CapacityPolicy(Resource, frozen=True, kw_only=True):
    """To what a requested amount of a capacity is rounded up, and what a claim without a request takes."""

    default: Quantity | None = None
    valid_range: CapacityRange | None = None
    valid_values: tuple[Quantity, ...] = ()


class DeviceCapacity(Resource, frozen=True, kw_only=True):
    """One capacity of a device."""

    value: Quantity = 0
    request_policy: CapacityPolicy | None = None


class SliceDevice(Resource, frozen=True, kw_only=True):
    """One device of a ResourceSlice."""

    name: str = ""
    node_name: str = ""
    allow_multiple_allocations: bool = False
    attributes: dict[str, DeviceAttribute] = {}
    capacity: dict[str, DeviceCapacity] = {}
    taints: tuple[Taint, ...] = ()


class ResourcePool(Resource, frozen=True, kw_only=True):
    """The pool that the devices of some ResourceSlices are in; those of an older generation are void."""

    name: str = ""
    generation: int = 0


class ResourceSliceSpec(Resource, frozen=True, kw_only=True):
    """The spec of a ResourceSlice."""

    driver: str = ""
    node_name: str = ""
    pool: ResourcePool = ResourcePool()
    devices: tuple[SliceDevice, ...] = ()


class ResourceSlice(Resource, frozen=True, kw_only=True):
    """A ResourceSlice: devices that a DRA driver offers."""

    metadata: Metadata
    spec: ResourceSliceSpec = ResourceSliceSpec()


class ResourceClaim(Resource, frozen=True, kw_only=True):
    """A ResourceClaim; only its metadata is read."""

    metadata: Metadata
