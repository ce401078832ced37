"""The picture: what the API holds, condensed to one fact a subject. Pure: it is told, and it answers.

It never forgets to say what a change touches: a Pod belongs to its Model's workload and to its node's sum of requests, a claim to
every Model that names it, a Lease to every member of its group.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from flexinfer import sources
from flexinfer.api import kube
from flexinfer.api.groupversion import KIND
from flexinfer.api.kinds import CLAIMS, JOBS, LEASES, MODELS, NODES, PODS, Kind
from flexinfer.api.labels import MODEL_UID_LABEL
from flexinfer.api.model import Metadata, Model
from flexinfer.api.quantity import milli
from flexinfer.events import events, workload
from flexinfer.events.events import StateEvent
from flexinfer.events.nodes import NodeFacts, Taint
from flexinfer.events.workload import GroupLease, JobFacts, PodFacts
from flexinfer.watcher.index import Index

KINDS: tuple[Kind[Any], ...] = (MODELS, PODS, JOBS, CLAIMS, LEASES, NODES)
_ENDED = ("Succeeded", "Failed")
_ORDER = {"workload": 0, "model": 1, "node": 2}


class SubjectKey(NamedTuple):
    """What a fact is about: the kind of subject, the namespace (empty for nodes) and the name."""

    kind: str
    namespace: str
    name: str

    @property
    def key(self) -> str:
        """`namespace/name`, or the name alone."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


def in_order(abouts: Iterable[SubjectKey]) -> list[SubjectKey]:
    """Return subjects in the order in which readers should learn of them.

    A Model after its claims and Pods, so that nobody misses them at first sight; a node's sums after the Pods that they count.
    """
    return sorted(abouts, key=lambda about: (_ORDER[about.kind], about))


class ClusterCache:
    """Everything that the API was last seen to hold."""

    def __init__(self) -> None:
        self._shelves: dict[str, Index[Any]] = {
            MODELS.plural: Index(_model_tags),
            PODS.plural: Index(_pod_tags),
            JOBS.plural: Index(_owned_tags),
            CLAIMS.plural: Index(_no_tags),
            LEASES.plural: Index(_no_tags),
            NODES.plural: Index(_no_tags),
        }
        self._missing = {kind.plural for kind in KINDS}
        self.versions: dict[str, int] = {}  # plural -> the latest version seen

    @property
    def whole(self) -> bool:
        """Whether every kind has been listed: before that, what is missing proves nothing."""
        return not self._missing

    def listed(self, kind: Kind[Any], items: Iterable[Any], version: str) -> set[SubjectKey]:
        """Take a whole list of a kind; returns what it touches."""
        self._missing.discard(kind.plural)
        self.versions[kind.plural] = int(version or 0)
        changed = self._shelves[kind.plural].swap(item for item in items if _relevant(item))
        return {about for thing in changed for about in self._touched(thing)}

    def seen(self, kind: Kind[Any], thing: Any) -> set[SubjectKey]:
        """Take an object that was added or changed; returns what it touches."""
        if not _relevant(thing):
            return self.gone(kind, thing)
        shelf, key = self._shelves[kind.plural], thing.metadata.key
        before = self._touched(shelf.find(key))
        self.versions[kind.plural] = thing.metadata.version
        shelf.put(thing)
        return before | self._touched(thing)

    def gone(self, kind: Kind[Any], thing: Any) -> set[SubjectKey]:
        """Take the news that an object was deleted; returns what it touches."""
        self.versions[kind.plural] = thing.metadata.version
        touched = self._touched(self._shelves[kind.plural].find(thing.metadata.key))
        self._shelves[kind.plural].drop(thing.metadata.key)
        return touched

    def model(self, key: str) -> Model | None:
        """Return a Model."""
        found: Model | None = self._shelves[MODELS.plural].find(key)
        return found

    def abouts(self) -> Iterator[SubjectKey]:
        """Yield everything that there is something to say about."""
        for model in self._shelves[MODELS.plural]:
            about = SubjectKey("model", model.metadata.namespace, model.metadata.name)
            yield about
            yield about._replace(kind="workload")
        for node in self._shelves[NODES.plural]:
            yield SubjectKey("node", "", node.metadata.name)

    def event(self, about: SubjectKey) -> StateEvent | None:
        """Return how something looks now; None when there is nothing."""
        if about.kind == "node":
            node = self._shelves[NODES.plural].find(about.key)
            return self._node(node) if node is not None else None
        model = self.model(about.key)
        if model is None:
            return None
        return events.ModelObserved(model=model) if about.kind == "model" else self._workload(model)

    def _touched(self, thing: Any) -> set[SubjectKey]:
        match thing:
            case Model(metadata=meta):
                return {
                    SubjectKey("model", meta.namespace, meta.name),
                    SubjectKey("workload", meta.namespace, meta.name),
                }
            case kube.Pod():
                on = {SubjectKey("node", "", thing.spec.node_name)} if thing.spec.node_name else set()
                return on | self._of_models(_pod_tags(thing))
            case kube.Job():
                return self._of_models(_owned_tags(thing))
            case kube.Claim():
                return self._of_models([f"claim/{thing.metadata.key}"])
            case kube.Lease():
                return self._of_models([f"lease/{thing.metadata.key}"])
            case kube.Node():
                return {SubjectKey("node", "", thing.metadata.name)}
            case _:
                return set()

    def _of_models(self, tags: Iterable[str]) -> set[SubjectKey]:
        return {
            SubjectKey("workload", model.metadata.namespace, model.metadata.name)
            for tag in tags
            for model in self._shelves[MODELS.plural].tagged(tag)
        }

    def _workload(self, model: Model) -> events.WorkloadObserved | None:
        meta, tag = model.metadata, f"model/{model.uid}"
        pods: list[kube.Pod] = self._shelves[PODS.plural].tagged(tag)
        jobs: list[kube.Job] = self._shelves[JOBS.plural].tagged(tag)
        claims = [self._shelves[CLAIMS.plural].find(f"{meta.namespace}/{name}") for name in _claims(model)]
        leases = [self._shelves[LEASES.plural].find(key) for key in _lease_keys(model)]
        observed = events.WorkloadObserved(
            namespace=meta.namespace,
            name=meta.name,
            pods=tuple(f for pod in pods if not _job_uid(pod) and (f := _pod(pod)) is not None),
            jobs=tuple(self._job(job, pods) for job in jobs),
            claims=tuple(workload.claim_facts(claim) for claim in claims if claim is not None),
            lease=next((turn for lease in leases if lease is not None and (turn := _turn(lease))), None),
        )
        said = observed.pods or observed.jobs or observed.claims or observed.lease
        return observed if said else None

    def _job(self, job: kube.Job, pods: Iterable[kube.Pod]) -> JobFacts:
        return workload.job_facts(job, tuple(pod for pod in pods if _job_uid(pod) == job.metadata.uid))

    def _node(self, node: kube.Node) -> events.NodeObserved:
        requested: dict[str, int] = {}
        for pod in self._shelves[PODS.plural].tagged(f"node/{node.metadata.name}"):
            for name, amount in requests_of(pod).items():
                requested[name] = requested.get(name, 0) + amount
        return events.NodeObserved(name=node.metadata.name, node=node_facts(node, requested))


def requests_of(pod: kube.Pod) -> dict[str, int]:
    """Return what a Pod takes from its node, in thousandths; nothing once it has ended."""
    if pod.status.phase in _ENDED:
        return {}
    total = {"pods": 1000}
    for container in pod.spec.containers:
        needs = container.resources.limits | container.resources.requests
        for name, amount in _amounts(needs).items():
            total[name] = total.get(name, 0) + amount
    return total


def node_facts(node: kube.Node, requested: Mapping[str, int]) -> NodeFacts:
    """Condense a Node."""
    ready = next((c.status for c in node.status.conditions if c.type == "Ready"), "Unknown")
    return NodeFacts(
        name=node.metadata.name,
        uid=node.metadata.uid,
        version=node.metadata.version,
        ready=ready,
        unschedulable=node.spec.unschedulable,
        labels=node.metadata.labels,
        taints=tuple(Taint(key=t.key, value=t.value, effect=t.effect) for t in node.spec.taints),
        allocatable=_amounts(node.status.allocatable),
        requested=dict(sorted(requested.items())),
    )


def _amounts(quantities: Mapping[str, Any]) -> dict[str, int]:
    """Return quantities in thousandths; what is none does not count."""
    amounts: dict[str, int] = {}
    for name in sorted(quantities):
        try:
            amounts[name] = milli(quantities[name])
        except (ValueError, OverflowError):
            continue
    return amounts


def _relevant(thing: Any) -> bool:
    """Tell whether an object can matter to us: of the Leases, only those that keep a group's turn."""
    return not isinstance(thing, kube.Lease) or workload.GROUP_ANNOTATION in thing.metadata.annotations


def _pod(pod: kube.Pod) -> PodFacts | None:
    """Condense a Pod; one whose labels of ours were tampered with is none of ours."""
    try:
        return workload.pod_facts(pod)
    except ValueError:
        return None


def _turn(lease: kube.Lease) -> GroupLease | None:
    try:
        return workload.group_lease(lease)
    except ValueError:
        return None


def _no_tags(_thing: Any) -> tuple[str, ...]:
    return ()


def _owned_tags(thing: kube.Job | kube.Pod) -> set[str]:
    uid = _model_uid(thing.metadata)
    return {f"model/{uid}"} if uid else set()


def _pod_tags(pod: kube.Pod) -> set[str]:
    return _owned_tags(pod) | ({f"node/{pod.spec.node_name}"} if pod.spec.node_name else set())


def _model_tags(model: Model) -> set[str]:
    namespace = model.metadata.namespace
    tags = {f"model/{model.uid}", *(f"lease/{key}" for key in _lease_keys(model))}
    return tags | {f"claim/{namespace}/{name}" for name in _claims(model)}


def _model_uid(meta: Metadata) -> str:
    owner = next((o.uid for o in meta.owner_references if o.kind == KIND and o.controller), "")
    return meta.labels.get(MODEL_UID_LABEL, "") or owner


def _job_uid(pod: kube.Pod) -> str:
    return next((o.uid for o in pod.metadata.owner_references if o.kind == "Job"), "")


def _claims(model: Model) -> list[str]:
    """Return the claims that a Model names or would be given."""
    names = {f"{model.metadata.name}-cache"}
    if model.spec.cache is not None and model.spec.cache.pvc_name:
        names.add(model.spec.cache.pvc_name)
    source = sources.parse(model.spec.source)
    if isinstance(source, sources.Source) and source.scheme == "pvc":
        names.add(source.name)
    return sorted(names)


def _lease_keys(model: Model) -> list[str]:
    """Return the Leases of the groups that a Model is in: first the one that it holds on to, if that is another."""
    shared = model.status.shared_group
    groups = [shared.group] if shared is not None and shared.group else []
    groups += [model.spec.group] if model.spec.group and model.spec.group not in groups else []
    return [f"{model.metadata.namespace}/{workload.lease_name(group)}" for group in groups]


__all__ = ["KINDS", "About", "Picture", "in_order", "node_facts", "requests_of"]
