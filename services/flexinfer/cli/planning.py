"""Planning: where a Model would go, who would have to leave, and why not elsewhere. Pure.

It asks the placer's own `decide` about states that differ from the observed one: with the Model in it; with one node alone; without some
of the Models that run there. So an answer is what the placer would do, in its own words.
"""

from collections.abc import Collection, Iterator, Sequence

import msgspec

from flexinfer import sources
from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model, ModelStatus
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.status import PlacedStatus
from flexinfer.cli.group_plan import holders_of, sharing
from flexinfer.events.events import GpusObserved, ModelDeleted, ModelObserved, WorkloadDeleted
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.binding import plugged
from flexinfer.placer.decide import decide
from flexinfer.placer.footprint import remembered
from flexinfer.placer.requirements import requirements_of
from flexinfer.sources import hf
from flexinfer.state.actions import WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.index import SCHEDULED, scheduled_to
from flexinfer.state.observed import Observation, ObservedState, Sample
from flexinfer.watcher.accepted import accepted

_GENERATION = 1
_ALONE = "no node fits (1 node): "


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """A node that the Model would not go to: why, and the Models that would have to leave it first; none: that would not help."""

    node: str
    reason: str
    leaving: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a Model would go; without a placement it fits nowhere now, and `message` says why.

    `holders` are the others that hold the devices of its shared group at present, `sharing` says whether it fits with them at once. `claimed`
    is the file on a PVC that it loads, which is not looked for.
    """

    key: str
    message: str
    placement: Placement | None = None
    devices: tuple[Device, ...] = ()
    holders: tuple[str, ...] = ()
    sharing: str = ""
    claimed: str = ""
    elsewhere: tuple[Elsewhere, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it would be placed now."""
        return self.placement is not None


def plan(state: ObservedState, model: Model, now: float) -> Plan:
    """Return the plan of a Model as if it were applied now; one of its name that exists already counts as gone.

    What is known of that one's memory counts, as far as it is valid for the new spec: the headers of its weights, and a measurement.
    """
    candidate = _candidate(model, state)
    condition = accepted(candidate)
    if not condition.true:
        return Plan(key=candidate.key, message=f"would be refused ({condition.reason}): {condition.message}")
    present = without(state, [candidate.key])
    outcome = _placed(present, candidate, now)
    placement = outcome.placement if outcome.condition.true else None
    others = [name for name in sorted(state.nodes) if placement is None or name != placement.node]
    return Plan(
        key=candidate.key,
        message=outcome.condition.message,
        placement=placement,
        devices=_devices_of(present, placement),
        holders=holders_of(present, candidate),
        sharing=sharing(_with(present, candidate), candidate, placement, now)
        if placement is not None
        else "",
        claimed=_claimed(candidate),
        elsewhere=tuple(_elsewhere(present, candidate, name, now) for name in others),
    )


def with_plan(state: ObservedState, model: Model, placement: Placement) -> ObservedState:
    """Return the state in which a Model was placed and is about to start: what the next one of a file is planned after."""
    candidate = _candidate(model, state)
    placed = _condition(conditions.PLACED, Reason.PLACED)
    status = msgspec.structs.replace(
        candidate.status,
        placement=placement,
        conditions=(*candidate.status.conditions, placed, _condition(conditions.WANTED, Reason.FIRST_START)),
    )
    scheduled_model = msgspec.structs.replace(candidate, status=status)
    return _with(without(state, [candidate.key]), scheduled_model)


def _candidate(model: Model, state: ObservedState) -> Model:
    """Return a Model as the watcher would have accepted it, with nothing decided of it yet but what is known of its memory."""
    metadata = msgspec.structs.replace(
        model.metadata, uid=f"plan/{model.key}", resource_version="1", generation=_GENERATION
    )
    initial_conditions = (_condition(conditions.ACCEPTED, Reason.ACCEPTED),)
    existing = state.models.get(model.key)
    if existing is None:
        return msgspec.structs.replace(
            model, metadata=metadata, status=ModelStatus(conditions=initial_conditions)
        )
    cache = existing.status.cache if _has_weights_of(model, existing) else None
    status = ModelStatus(conditions=initial_conditions, placement=existing.status.placement, cache=cache)
    candidate = msgspec.structs.replace(model, metadata=metadata, status=status)
    status = msgspec.structs.replace(status, placement=remembered(candidate))
    return msgspec.structs.replace(candidate, status=status)


def _has_weights_of(model: Model, other: Model) -> bool:
    """Return whether two Models load the same files."""
    files = hf.named_files(model.spec) == hf.named_files(other.spec)
    return files and sources.locate(model) == sources.locate(other)


def _condition(kind: str, reason: Reason) -> Condition:
    return Condition(type=kind, status=conditions.TRUE, reason=reason, observed_generation=_GENERATION)


def _with(state: ObservedState, model: Model) -> ObservedState:
    return apply_events(state, [Observation(ModelObserved(model=model), 0.0)])


def _placed(state: ObservedState, candidate: Model, now: float) -> PlacedStatus:
    """Return what the placer would write of a Model in a state without it."""
    actions = decide(_with(state, candidate), candidate.key, now)
    return next(
        action.status
        for action in actions
        if isinstance(action, WriteStatus) and isinstance(action.status, PlacedStatus)
    )


def _elsewhere(state: ObservedState, candidate: Model, node: str, now: float) -> Elsewhere:
    """Return why a Model would not go to a node; members of a shared group stay together."""
    home = _group_node(state, candidate)
    if home and home != node:
        return Elsewhere(
            node=node, reason=f"members of the shared group {candidate.spec.group} run on {home}"
        )
    alone = _only(state, node)
    outcome = _placed(alone, candidate, now)
    if outcome.condition.true:
        fit = outcome.placement.reason if outcome.placement is not None else ""
        return Elsewhere(node=node, reason=f"fits too, and is a worse choice ({fit})")
    leaving = next(_enough(alone, candidate, node, now), ())
    reason = (
        outcome.condition.message.removeprefix(_ALONE).removeprefix(f"{node}: ").partition(". Remedy: ")[0]
    )
    return Elsewhere(node=node, reason=reason, leaving=leaving)


def _group_node(state: ObservedState, candidate: Model) -> str:
    """Return the node that members of a Model's shared group are scheduled to; empty if none is, or without a group."""
    keys = state.members(candidate.metadata.namespace, candidate.spec.group) if candidate.spec.group else ()
    nodes = [scheduled_to(state.models[key]) for key in sorted(keys)]
    return next((node for node in nodes if node in state.nodes), "")


def _only(state: ObservedState, node: str) -> ObservedState:
    gpus = {name: sample for name, sample in state.gpus.items() if name == node}
    return msgspec.structs.replace(state, nodes={node: state.nodes[node]}, gpus=gpus)


def _enough(state: ObservedState, candidate: Model, node: str, now: float) -> Iterator[tuple[str, ...]]:
    """Yield the Models whose leaving would make room: one alone if that is enough, else as few as possible, lowest priority first."""
    running = sorted(state.under(SCHEDULED, node), key=lambda key: (state.models[key].spec.priority, key))
    choices = [(key,) for key in running] + [tuple(running[:count]) for count in range(2, len(running) + 1)]
    for leaving in choices:
        if _placed(without(state, leaving), candidate, now).condition.true:
            yield leaving


def _claimed(candidate: Model) -> str:
    """Return the file that a Model loads from a PVC of its own namespace; empty if it loads none from there."""
    location = sources.locate(candidate)
    return candidate.spec.source if location is not None and location.claim and not location.fetched else ""


def _devices_of(state: ObservedState, placement: Placement | None) -> tuple[Device, ...]:
    """Return the devices of a placement, as they are now."""
    sample = state.gpus.get(placement.node) if placement is not None else None
    if placement is None or sample is None:
        return ()
    return tuple(device for device in sample.observed.devices if device.uuid in placement.uuids)


def without(state: ObservedState, keys: Collection[str]) -> ObservedState:
    """Return the state in which some Models and their Pods are gone, and what they took is free again."""
    models = [state.models[key] for key in sorted(keys) if key in state.models]
    for model in models:
        state = _freed(state, model)
    deletions = [event for model in models for event in _deletions(model.metadata)]
    return apply_events(state, [Observation(event, 0.0) for event in deletions])


def _deletions(metadata: Metadata) -> Sequence[ModelDeleted | WorkloadDeleted]:
    namespace, name = metadata.namespace, metadata.name
    return (
        ModelDeleted(namespace=namespace, name=name, uid=metadata.uid),
        WorkloadDeleted(namespace=namespace, name=name),
    )


def _freed(state: ObservedState, model: Model) -> ObservedState:
    """Return the state with the requests and the device memory of a Model's Pods given back."""
    pods = [pod for pod in state.workload(model).pods if pod.node and not pod.ended]
    uids = frozenset(pod.uid for pod in pods)
    nodes, gpus = dict(state.nodes), dict(state.gpus)
    for pod in pods:
        if pod.node in nodes:
            nodes[pod.node] = _without_requests(nodes[pod.node], model)
        if pod.node in gpus:
            gpus[pod.node] = _without_processes(gpus[pod.node], uids)
    return msgspec.structs.replace(state, nodes=nodes, gpus=gpus)


def _without_requests(node: NodeFacts, model: Model) -> NodeFacts:
    requirements, placement = requirements_of(model), model.status.placement or Placement()
    amounts = dict(requirements.amounts)
    if requirements.devices and plugged(model) and placement.vendor in GPU_RESOURCES:
        amounts[GPU_RESOURCES[placement.vendor]] = 1000 * requirements.devices
    requests = {name: max(0, amount - amounts.get(name, 0)) for name, amount in node.requested.items()}
    return msgspec.structs.replace(node, requested=requests)


def _without_processes(sample: Sample, pods: Collection[str]) -> Sample:
    devices = tuple(_without_pods(device, pods) for device in sample.observed.devices)
    event: GpusObserved = msgspec.structs.replace(sample.observed, devices=devices)
    return Sample(event, sample.at)


def _without_pods(device: Device, pods: Collection[str]) -> Device:
    processes = tuple(process for process in device.processes if process.pod_uid not in pods)
    freed_mb = sum(process.used_mb for process in device.processes if process.pod_uid in pods)
    return msgspec.structs.replace(
        device,
        processes=processes,
        used_mb=max(0, device.used_mb - freed_mb),
        free_mb=min(device.total_mb, device.free_mb + freed_mb),
    )
