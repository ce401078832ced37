"""The built-in objects of Kubernetes, reduced to the fields that FlexInfer reads. Pure."""

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.metadata import Metadata
from flexinfer.api.quantity import Quantity


class ContainerState(Resource, frozen=True, kw_only=True):
    """Why a container waits, since when it runs, or how it ended; one of the three."""

    class Waiting(Resource, frozen=True, kw_only=True):
        """A container that has not started."""

        reason: str = ""
        message: str = ""

    class Running(Resource, frozen=True, kw_only=True):
        """A container that runs."""

        started_at: str | None = None

    class Terminated(Resource, frozen=True, kw_only=True):
        """A container that ended."""

        exit_code: int = 0
        reason: str = ""
        message: str = ""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class AllocatedResource(Resource, frozen=True, kw_only=True):
    """One device that a device plugin has given to a container."""

    resource_id: str = msgspec.field(name="resourceID", default="")


class ResourceAllocation(Resource, frozen=True, kw_only=True):
    """The devices of one resource that a container has (Kubernetes 1.36 or newer, where ResourceHealthStatus is on by default)."""

    name: str = ""
    resources: tuple[AllocatedResource, ...] = ()


class ContainerStatus(Resource, frozen=True, kw_only=True):
    """One container of a Pod."""

    name: str = ""
    ready: bool = False
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()
    allocated_resources_status: tuple[ResourceAllocation, ...] = ()


class SchedulingGate(Resource, frozen=True, kw_only=True):
    """A gate that keeps a Pod from being scheduled."""

    name: str


class ResourceNeeds(Resource, frozen=True, kw_only=True):
    """Requests and limits of a container."""

    requests: dict[str, Quantity] = {}
    limits: dict[str, Quantity] = {}


class Container(Resource, frozen=True, kw_only=True):
    """One container of a Pod's spec."""

    name: str = ""
    resources: ResourceNeeds = ResourceNeeds()


class PodResourceClaim(Resource, frozen=True, kw_only=True):
    """A ResourceClaim that a Pod names."""

    name: str
    resource_claim_name: str = ""


class PodSpec(Resource, frozen=True, kw_only=True):
    """The spec of a Pod."""

    node_name: str = ""
    scheduling_gates: tuple[SchedulingGate, ...] = ()
    containers: tuple[Container, ...] = ()
    resource_claims: tuple[PodResourceClaim, ...] = ()


class PodStatus(Resource, frozen=True, kw_only=True):
    """The status of a Pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    pod_ip: str = msgspec.field(name="podIP", default="")
    conditions: tuple["PodCondition", ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class PodCondition(Resource, frozen=True, kw_only=True):
    """A condition of a Pod, a Node or a Job (their reasons may be absent)."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class Pod(Resource, frozen=True, kw_only=True):
    """A Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class JobStatus(Resource, frozen=True, kw_only=True):
    """The status of a Job."""

    active: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: tuple[PodCondition, ...] = ()


class Job(Resource, frozen=True, kw_only=True):
    """A Job."""

    metadata: Metadata
    status: JobStatus = JobStatus()


class ClaimStatus(Resource, frozen=True, kw_only=True):
    """The status of a PVC."""

    phase: str = ""
    capacity: dict[str, Quantity] = {}


class ClaimResources(Resource, frozen=True, kw_only=True):
    """What a PVC asks for."""

    requests: dict[str, Quantity] = {}


class ClaimSpec(Resource, frozen=True, kw_only=True):
    """The spec of a PVC."""

    storage_class_name: str | None = None
    resources: ClaimResources = ClaimResources()


class Claim(Resource, frozen=True, kw_only=True):
    """A PersistentVolumeClaim."""

    metadata: Metadata
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class Event(Resource, frozen=True, kw_only=True):
    """An Event that another component wrote; by `series` and `eventTime`, or, of an older kind, by `lastTimestamp`."""

    class Series(Resource, frozen=True, kw_only=True):
        """How often it happened, and when last."""

        last_observed_time: str | None = None

    metadata: Metadata
    type: str = ""
    reason: str = ""
    message: str = ""
    last_timestamp: str | None = None
    event_time: str | None = None
    series: Series | None = None

    @property
    def moment(self) -> str:
        """When it happened last, in a form that sorts by time."""
        series = self.series.last_observed_time if self.series is not None else None
        return series or self.last_timestamp or self.event_time or ""


class StorageClass(Resource, frozen=True, kw_only=True):
    """A StorageClass; what is read of it is that it exists, and whether its volumes may grow."""

    metadata: Metadata
    allow_volume_expansion: bool = False


class Service(Resource, frozen=True, kw_only=True):
    """A Service; its spec is compared, and read for nothing else."""

    metadata: Metadata
    spec: dict[str, object] = {}


class LeaseSpec(Resource, frozen=True, kw_only=True):
    """The holder of a Lease; times are RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Resource, frozen=True, kw_only=True):
    """A Lease."""

    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"
    metadata: Metadata
    spec: LeaseSpec = LeaseSpec()


class Taint(Resource, frozen=True, kw_only=True):
    """A taint of a Node."""

    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Resource, frozen=True, kw_only=True):
    """The spec of a Node."""

    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False


class RuntimeHandler(Resource, frozen=True, kw_only=True):
    """A handler of a node's container runtime, which a RuntimeClass names; the default one has no name."""

    name: str = ""


class NodeStatus(Resource, frozen=True, kw_only=True):
    """The status of a Node, as its kubelet reports it."""

    allocatable: dict[str, Quantity] = {}
    conditions: tuple[PodCondition, ...] = ()
    runtime_handlers: tuple[RuntimeHandler, ...] = ()


class Node(Resource, frozen=True, kw_only=True):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()
