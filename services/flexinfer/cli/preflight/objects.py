"""The objects that a check reads, reduced to what it reads of them. Pure.

They are structs of the command line: components read other fields of the same kinds, or none.
"""

import msgspec

from flexinfer.api.base import Resource
from flexinfer.api.kinds import Kind
from flexinfer.api.kube import ContainerState, PodCondition, RuntimeHandler
from flexinfer.api.metadata import Metadata
from flexinfer.api.podspec import SecretReference
from flexinfer.api.quantity import Quantity


class Variable(Resource, frozen=True, kw_only=True):
    """A variable of a container."""

    name: str
    value: str = ""


class ConfigMapReference(Resource, frozen=True, kw_only=True):
    """The ConfigMap of a container's environment."""

    name: str = ""


class EnvironmentSource(Resource, frozen=True, kw_only=True):
    """Where a container has its variables from."""

    config_map_ref: ConfigMapReference = ConfigMapReference()


class Container(Resource, frozen=True, kw_only=True):
    """A container."""

    name: str = ""
    image: str = ""
    env: tuple[Variable, ...] = ()
    env_from: tuple[EnvironmentSource, ...] = ()


class PodSpec(Resource, frozen=True, kw_only=True):
    """The spec of a Pod, or of a template."""

    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()
    image_pull_secrets: tuple[SecretReference, ...] = ()
    runtime_class_name: str = ""


class ContainerStatus(Resource, frozen=True, kw_only=True):
    """One container of a Pod."""

    name: str = ""
    image: str = ""
    state: ContainerState = ContainerState()


class PodStatus(Resource, frozen=True, kw_only=True):
    """The status of a Pod."""

    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Resource, frozen=True, kw_only=True):
    """A Pod."""

    metadata: Metadata
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class Template(Resource, frozen=True, kw_only=True):
    """The template of a workload."""

    spec: PodSpec = PodSpec()


class WorkloadSpec(Resource, frozen=True, kw_only=True):
    """The spec of a workload; without `replicas` it is one."""

    replicas: int = 1
    template: Template = Template()


class WorkloadStatus(Resource, frozen=True, kw_only=True):
    """The status of a Deployment or StatefulSet, and of a DaemonSet, which counts in other fields."""

    ready_replicas: int = 0
    number_ready: int = 0
    desired_number_scheduled: int | None = None


class Workload(Resource, frozen=True, kw_only=True):
    """A Deployment, a DaemonSet or a StatefulSet."""

    metadata: Metadata
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()

    @property
    def desired(self) -> int:
        """How many Pods there should be."""
        count = self.status.desired_number_scheduled
        return self.spec.replicas if count is None else count

    @property
    def ready(self) -> int:
        """How many of them are ready."""
        status = self.status
        return status.ready_replicas if status.desired_number_scheduled is None else status.number_ready


class ConfigMap(Resource, frozen=True, kw_only=True):
    """A ConfigMap."""

    metadata: Metadata
    data: dict[str, str] = {}


class Named(Resource, frozen=True, kw_only=True):
    """An object of which only its metadata counts."""

    metadata: Metadata


class RuntimeClass(Resource, frozen=True, kw_only=True):
    """A RuntimeClass."""

    metadata: Metadata
    handler: str = ""


class Image(Resource, frozen=True, kw_only=True):
    """An image that a node has; of the largest 50, unless its kubelet is set to list more."""

    names: tuple[str, ...] = ()


class NodeStatus(Resource, frozen=True, kw_only=True):
    """The status of a Node."""

    allocatable: dict[str, Quantity] = {}
    conditions: tuple[PodCondition, ...] = ()
    runtime_handlers: tuple[RuntimeHandler, ...] = ()
    images: tuple[Image, ...] = ()


class Node(Resource, frozen=True, kw_only=True):
    """A Node."""

    metadata: Metadata
    status: NodeStatus = NodeStatus()


class SchemaPart(Resource, frozen=True, kw_only=True):
    """A part of a schema."""

    properties: dict[str, msgspec.Raw] = {}


class VersionSchema(Resource, frozen=True, kw_only=True):
    """The schema of a version of a CustomResourceDefinition."""

    open_api_v3_schema: SchemaPart = msgspec.field(name="openAPIV3Schema", default=SchemaPart())


class Version(Resource, frozen=True, kw_only=True):
    """A version of a CustomResourceDefinition."""

    name: str = ""
    schema: VersionSchema = VersionSchema()


class DefinitionSpec(Resource, frozen=True, kw_only=True):
    """The spec of a CustomResourceDefinition."""

    versions: tuple[Version, ...] = ()


class DefinitionStatus(Resource, frozen=True, kw_only=True):
    """The status of a CustomResourceDefinition."""

    conditions: tuple[PodCondition, ...] = ()


class Definition(Resource, frozen=True, kw_only=True):
    """A CustomResourceDefinition."""

    metadata: Metadata
    spec: DefinitionSpec = DefinitionSpec()
    status: DefinitionStatus = DefinitionStatus()


class ReviewStatus(Resource, frozen=True, kw_only=True):
    """The answer to a review of access."""

    allowed: bool = False


class Review(Resource, frozen=True, kw_only=True):
    """A review of the access that this user has."""

    status: ReviewStatus = ReviewStatus()


DEFINITIONS = Kind(
    "apiextensions.k8s.io/v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    Definition,
    namespaced=False,
)
RUNTIME_CLASSES = Kind("node.k8s.io/v1", "RuntimeClass", "runtimeclasses", RuntimeClass, namespaced=False)
NODES = Kind("v1", "Node", "nodes", Node, namespaced=False)
PODS = Kind("v1", "Pod", "pods", Pod)
DEPLOYMENTS = Kind("apps/v1", "Deployment", "deployments", Workload)
DAEMON_SETS = Kind("apps/v1", "DaemonSet", "daemonsets", Workload)
STATEFUL_SETS = Kind("apps/v1", "StatefulSet", "statefulsets", Workload)
CONFIG_MAPS = Kind("v1", "ConfigMap", "configmaps", ConfigMap)
SECRETS = Kind("v1", "Secret", "secrets", Named)
REVIEWS = Kind(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", Review, namespaced=False
)
