"""The objects of the API group resource.k8s.io (DRA), reduced to the fields that FlexInfer reads. Pure."""

import msgspec

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


class AllocatedDevice(Resource, frozen=True, kw_only=True):
    """One device that a claim has: the whole of it, or with a `share_id` the capacities that it consumes. One for an administrator takes nothing."""

    driver: str = ""
    pool: str = ""
    device: str = ""
    admin_access: bool | None = None
    share_id: str = msgspec.field(name="shareID", default="")
    consumed_capacity: dict[str, Quantity] = {}


class AllocatedDevices(Resource, frozen=True, kw_only=True):
    """The devices of a claim."""

    results: tuple[AllocatedDevice, ...] = ()


class Allocation(Resource, frozen=True, kw_only=True):
    """What the scheduler has allocated to a claim."""

    devices: AllocatedDevices = AllocatedDevices()


class ClaimConsumer(Resource, frozen=True, kw_only=True):
    """Who may use the devices of a claim: as a rule a Pod."""

    resource: str = ""
    uid: str = ""


class ResourceClaimStatus(Resource, frozen=True, kw_only=True):
    """The status of a ResourceClaim; without an allocation it has no device."""

    allocation: Allocation | None = None
    reserved_for: tuple[ClaimConsumer, ...] = ()

    @property
    def devices(self) -> tuple[AllocatedDevice, ...]:
        """The devices that it takes from others."""
        results = self.allocation.devices.results if self.allocation is not None else ()
        return tuple(result for result in results if not result.admin_access)


class ResourceClaim(Resource, frozen=True, kw_only=True):
    """A ResourceClaim: the request of Pods for devices."""

    metadata: Metadata
    status: ResourceClaimStatus = ResourceClaimStatus()
