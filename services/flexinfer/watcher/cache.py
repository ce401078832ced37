"""ClusterCache: what the API server was last observed to hold, as one fact a subject. Pure.

A change affects more subjects than its own object: a Pod its Model's workload and its node's sum of requests,
a PVC every Model that names it, and a ResourceSlice or an allocated ResourceClaim the nodes of its devices.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, cast

from flexinfer import sources
from flexinfer.api import kube, resource_api
from flexinfer.api.kinds import (
    CLAIMS,
    GPU_LEASES,
    JOBS,
    MODELS,
    NODES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SHARED_GROUPS,
    Kind,
)
from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.numbers import whole_number
from flexinfer.api.sharedgroup import SharedGroup
from flexinfer.events import events, workload
from flexinfer.events.events import StateEvent
from flexinfer.watcher.dra import nodes_of, pool_of, pools_of
from flexinfer.watcher.facts import job_uid, node_facts, requests_of
from flexinfer.watcher.index import Index, KubernetesObject

KINDS: tuple[Kind[Any], ...] = (
    MODELS, PODS, JOBS, CLAIMS, SHARED_GROUPS, GPU_LEASES, NODES, RESOURCE_SLICES, RESOURCE_CLAIMS
)  # fmt: skip
"""The kinds that are watched."""
_MOST_CHILDREN = 16
"""Pods and Jobs of one Model that are published: more are not ours, and would not fit into a message, whatever others write on them."""
_PUBLISH_ORDER = {"workload": 0, "group": 1, "lease": 2, "model": 3, "node": 4}
T = TypeVar("T", bound=KubernetesObject)


class SubjectKey(NamedTuple):
    """What a fact is about: a model, workload, group, lease or node; its namespace (empty for nodes) and name."""

    kind: str
    namespace: str
    name: str

    @property
    def object_key(self) -> str:
        """`namespace/name`, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def in_publish_order(keys: Iterable[SubjectKey]) -> list[SubjectKey]:
    """Return subjects in the order in which readers should observe them.

    A Model after its PVCs and Pods, so that they do not seem to be missing; a node's sums after the Pods that
    they count.
    """
    return sorted(keys, key=lambda key: (_PUBLISH_ORDER[key.kind], key))


class ClusterCache:
    """Everything last observed, by kind. Each change returns the subjects that it affects.

    `runtime_classes` are those that the settings name for the GPUs of a vendor.
    """

    def __init__(self, runtime_classes: Mapping[str, str] = MappingProxyType({})) -> None:
        self._runtime_classes = runtime_classes
        self._models: Index[Model] = Index(_model_tags)
        self._pods: Index[kube.Pod] = Index(_pod_tags)
        self._jobs: Index[kube.Job] = Index(_owner_tags)
        self._claims: Index[kube.Claim] = Index()
        self._groups: Index[SharedGroup] = Index()
        self._leases: Index[GPULease] = Index()
        self._nodes: Index[kube.Node] = Index()
        self._slices: Index[resource_api.ResourceSlice] = Index(_slice_tags)
        self._device_claims: Index[resource_api.ResourceClaim] = Index(pools_of)
        self._indexes: dict[str, object] = {
            MODELS.plural: self._models,
            PODS.plural: self._pods,
            JOBS.plural: self._jobs,
            CLAIMS.plural: self._claims,
            SHARED_GROUPS.plural: self._groups,
            GPU_LEASES.plural: self._leases,
            NODES.plural: self._nodes,
            RESOURCE_SLICES.plural: self._slices,
            RESOURCE_CLAIMS.plural: self._device_claims,
        }
        self._unlisted = set(self._indexes)
        self.versions: dict[str, int] = {}  # plural -> the latest resourceVersion observed

    @property
    def synced(self) -> bool:
        """Whether every kind has been listed: before that, what is missing proves nothing."""
        return not self._unlisted

    def replace_all(self, kind: Kind[T], items: Iterable[T], version: str) -> set[SubjectKey]:
        """Take a list of a kind, with its version; returns the subjects that it affects."""
        self._unlisted.discard(kind.plural)
        self.versions[kind.plural] = whole_number(version) or 0
        changed_items = self._index(kind).replace_all(items)
        return {key for item in changed_items for key in self._affected(item)}

    def upsert(self, kind: Kind[T], item: T) -> set[SubjectKey]:
        """Take an object that was added or changed; returns the subjects that it affects."""
        self.versions[kind.plural] = item.metadata.version
        index = self._index(kind)
        before = self._affected(index.find(item.metadata.key))
        index.upsert(item)
        return before | self._affected(item)

    def remove(self, kind: Kind[T], item: T) -> set[SubjectKey]:
        """Take an object that was deleted; returns the subjects that it affects."""
        self.versions[kind.plural] = item.metadata.version
        index, key = self._index(kind), item.metadata.key
        subjects = self._affected(index.find(key))
        index.remove(key)
        return subjects

    def model(self, key: str) -> Model | None:
        """Return a Model, or None."""
        return self._models.find(key)

    def subjects(self) -> Iterator[SubjectKey]:
        """Yield every subject that there may be a fact about."""
        for model in self._models:
            yield from _subjects_of(model)
        for group in self._groups:
            yield _key("group", group)
        for lease in self._leases:
            yield _key("lease", lease)
        for node in self._nodes:
            yield SubjectKey("node", "", node.metadata.name)

    def event(self, key: SubjectKey) -> StateEvent | None:
        """Return the fact about a subject as it is now; None if there is none."""
        if key.kind == "node":
            node = self._nodes.find(key.object_key)
            return self._node(node) if node is not None else None
        if key.kind == "group":
            group = self._groups.find(key.object_key)
            return events.GroupObserved(group=group) if group is not None else None
        if key.kind == "lease":
            lease = self._leases.find(key.object_key)
            return events.LeaseObserved(lease=lease) if lease is not None else None
        model = self.model(key.object_key)
        if model is None:
            return None
        return events.ModelObserved(model=model) if key.kind == "model" else self._workload(model)

    def _index(self, kind: Kind[T]) -> Index[T]:
        return cast("Index[T]", self._indexes[kind.plural])

    def _affected(self, item: KubernetesObject | None) -> set[SubjectKey]:
        match item:
            case Model():
                return set(_subjects_of(item))
            case kube.Pod():
                node = item.spec.node_name
                on = {SubjectKey("node", "", node)} if node else set()
                return on | self._workloads_tagged(_pod_tags(item))
            case kube.Job():
                return self._workloads_tagged(_owner_tags(item))
            case kube.Claim():
                return self._workloads_tagged([f"claim/{item.metadata.key}"])
            case SharedGroup():
                return {_key("group", item)}
            case GPULease():
                return {_key("lease", item)}
            case kube.Node():
                return {SubjectKey("node", "", item.metadata.name)}
            case resource_api.ResourceSlice():
                return {SubjectKey("node", "", name) for name in nodes_of(item)}
            case resource_api.ResourceClaim():
                slices = [one for pool in pools_of(item) for one in self._slices.tagged(pool)]
                return {SubjectKey("node", "", name) for one in slices for name in nodes_of(one)}
            case _:
                return set()

    def _workloads_tagged(self, tags: Iterable[str]) -> set[SubjectKey]:
        return {_key("workload", model) for tag in tags for model in self._models.tagged(tag)}

    def _workload(self, model: Model) -> events.WorkloadObserved | None:
        """Return the workload of a Model; None if the cluster runs and holds nothing for it."""
        meta, tag = model.metadata, _model_tag(model.metadata.namespace, model.uid)
        pods = self._pods.tagged(tag)
        jobs = _published(self._jobs.tagged(tag), model)
        claims = [self._claims.find(f"{meta.namespace}/{name}") for name in _claim_names(model)]
        # Pods of a Job are the Job's: a download must not look like an engine.
        engines = _published([pod for pod in pods if not job_uid(pod)], model)
        event = events.WorkloadObserved(
            namespace=meta.namespace,
            name=meta.name,
            pods=tuple(map(workload.pod_facts, engines)),
            jobs=tuple(workload.job_facts(job, _pods_of(job, pods)) for job in jobs),
            claims=tuple(workload.claim_facts(claim) for claim in claims if claim is not None),
        )
        return event if event.pods or event.jobs or event.claims else None

    def _node(self, node: kube.Node) -> events.NodeObserved:
        requests: dict[str, int] = {}
        for pod in self._pods.tagged(f"node/{node.metadata.name}"):
            for name, amount in requests_of(pod).items():
                requests[name] = requests.get(name, 0) + amount
        slices = self._slices.tagged(node.metadata.name)
        pools = sorted({pool_of(one) for one in slices})
        claims = {one.metadata.key: one for pool in pools for one in self._device_claims.tagged(pool)}
        facts = node_facts(node, requests, slices, tuple(claims.values()), self._runtime_classes)
        return events.NodeObserved(name=node.metadata.name, node=facts)


def _key(kind: str, item: KubernetesObject) -> SubjectKey:
    return SubjectKey(kind, item.metadata.namespace, item.metadata.name)


def _subjects_of(model: Model) -> tuple[SubjectKey, SubjectKey]:
    return _key("model", model), _key("workload", model)


def _owner_tags(item: kube.Job | kube.Pod) -> set[str]:
    uid = workload.model_uid(item.metadata)
    return {_model_tag(item.metadata.namespace, uid)} if uid else set()


def _model_tag(namespace: str, uid: str) -> str:
    """Return the tag of a Model's children: in its namespace, whatever the labels of others say."""
    return f"model/{namespace}/{uid}"


def _pod_tags(pod: kube.Pod) -> set[str]:
    return _owner_tags(pod) | ({f"node/{pod.spec.node_name}"} if pod.spec.node_name else set())


def _slice_tags(resource_slice: resource_api.ResourceSlice) -> set[str]:
    """Return the nodes and the pool of a slice; no node's name has a slash."""
    return nodes_of(resource_slice) | {pool_of(resource_slice)}


def _model_tags(model: Model) -> set[str]:
    namespace = model.metadata.namespace
    tags = {_model_tag(namespace, model.uid)}
    return tags | {f"claim/{namespace}/{name}" for name in _claim_names(model)}


def _published(children: Sequence[T], model: Model) -> Sequence[T]:
    """Return the children that are published, in their order: the Model's own before those that others have labelled so."""
    if len(children) <= _MOST_CHILDREN:
        return children
    own_first = sorted(children, key=lambda child: not workload.is_controlled_by(child.metadata, model.uid))
    keys = {child.metadata.key for child in own_first[:_MOST_CHILDREN]}
    return [child for child in children if child.metadata.key in keys]


def _pods_of(job: kube.Job, pods: Iterable[kube.Pod]) -> tuple[kube.Pod, ...]:
    return tuple(pod for pod in pods if job_uid(pod) == job.metadata.uid)


def _claim_names(model: Model) -> list[str]:
    """Return the PVCs that a Model names or that would be created for it."""
    names = {f"{model.metadata.name}-cache"}
    if model.spec.cache is not None and model.spec.cache.pvc_name:
        names.add(model.spec.cache.pvc_name)
    source = sources.parse(model.spec.source)
    if isinstance(source, sources.Source) and source.scheme == "pvc":
        names.add(source.name)
    return sorted(names)
