"""The rules of starting and stopping, each asked twice: of the fleet when deciding, of fresh reads when acting. Pure."""

from collections.abc import Iterable

from flexinfer.api import conditions, reasons
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import RELEASING, GroupLease, PodFacts, lease_name
from flexinfer.launcher.manifests import LaunchSettings, pod_name, template
from flexinfer.launcher.memory import Memory
from flexinfer.state.observed import ObservedState

GATES = (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED, conditions.WANTED, conditions.GRANTED)
AT_REST = reasons.AT_REST | reasons.FINAL_FOR[conditions.READY]
"""No engine runs, and none is started before something changes."""
LOADING = reasons.LOADING
GONE = "gone"
"""What a probe says of a Pod that the API server no longer has."""


def open_gates(model: Model) -> bool:
    """Tell whether everything that a start needs is True at this generation."""
    return not model.deleting and all(model.is_true(kind) for kind in GATES)


def closed_gate(model: Model) -> str:
    """Return a sentence on the first thing that a start still needs; empty when there is none."""
    for kind in GATES:
        if not model.is_true(kind):
            found = model.condition(kind)
            current = found is not None and found.observed_generation == model.metadata.generation
            return f"{kind} is {found.reason}: {found.message}" if found and current else f"waits for {kind}"
    return ""


def turn_of(model: Model) -> int:
    """Return the turn that a start needs; 0 for who shares its device with nobody."""
    shared = model.status.shared_group
    return shared.turn if model.spec.group and shared is not None else 0


def lease_names(model: Model) -> tuple[str, ...]:
    """Return the names of the Leases that this Model may hold: of its group, and of one that it is leaving."""
    shared = model.status.shared_group
    groups = dict.fromkeys((model.spec.group, shared.group if shared is not None else ""))
    return tuple(lease_name(group) for group in groups if group)


def leases_of(model: Model, state: ObservedState) -> tuple[GroupLease, ...]:
    """Return those Leases as last observed."""
    found = (state.lease(model.metadata.namespace, name) for name in lease_names(model))
    return tuple(lease for lease in found if lease is not None)


def releasing(model: Model, leases: Iterable[GroupLease]) -> int:
    """Return the turn that this Model is asked to give back, 0 when it is not."""
    return next((t.turn for t in leases if t.step == RELEASING and t.holder_uid == model.uid), 0)


def stop_reason(model: Model, leases: Iterable[GroupLease]) -> str:
    """Return why nothing of this Model may run, or nothing.

    A newer spec that is refused does not stop the engine that serves the older one.
    """
    if model.deleting:
        return "the Model is being deleted"
    for kind in (conditions.WANTED, conditions.GRANTED):
        found = model.condition(kind)
        if model.condition_status(kind) == conditions.FALSE and found and found.reason != Reason.NOT_ACCEPTED:
            return found.message or f"{kind} is False"
    if node_gone(model):
        return "its node is gone"
    return "its turn on the shared device is over" if releasing(model, leases) else ""


def node_gone(model: Model) -> bool:
    """Tell whether the Model's node is given up: its Pod is then deleted without waiting for the node."""
    placed = model.condition(conditions.PLACED)
    return (
        placed is not None
        and model.condition_status(conditions.PLACED) == conditions.FALSE
        and (placed.reason == Reason.NODE_GONE)
    )


def renewal(model: Model, pod: PodFacts, settings: LaunchSettings) -> str:
    """Return why a Pod must make room for another of the same Model, or nothing.

    A template is compared once a generation: what runs and was told Ready at this generation stays, also when an upgrade of ours would
    render it otherwise.
    """
    if not open_gates(model):
        return ""
    if pod.turn != turn_of(model):
        return "it belongs to a former turn"
    ready = model.condition(conditions.READY)
    settled = ready is not None and ready.observed_generation == model.metadata.generation
    if settled and ready is not None and ready.true and ready.reason == Reason.READY:
        return ""
    made = template(model, settings)
    return "its Pod template changed" if made is not None and made.digest != pod.template else ""


def failed_for_good(model: Model) -> bool:
    """Tell whether the start of this generation was given up."""
    ready = model.condition(conditions.READY)
    return (
        ready is not None
        and ready.status == conditions.FALSE
        and ready.reason == Reason.LOADING_TIMEOUT
        and ready.observed_generation == model.metadata.generation
    )


def pods_of(model: Model, state: ObservedState, memory: Memory) -> tuple[PodFacts, ...]:
    """Return the Model's own Pods as last seen, by the bus or by the launcher's own reads, whichever is newer.

    A read that found a Pod on its way out says nothing once the bus knows that Pod no more: nobody would read it again, and its successor would wait
    for ever.
    """
    probe = memory.probe(model)
    answer = probe.answer if probe is not None else None
    own = {p.uid: p for p in state.workload(model).pods if p.model_uid == model.uid and _engine(p, model)}
    if answer is not None and answer.pod is None and answer.detail == GONE:
        own.pop(answer.pod_uid, None)
    seen = answer.pod if answer is not None else None
    if seen is not None and seen.model_uid == model.uid:
        known = own.get(seen.uid)
        newest = max((p.version for p in own.values()), default=0)
        fresh = seen.version > newest and not seen.deleting if known is None else seen.version > known.version
        if fresh:
            own[seen.uid] = seen
    return tuple(sorted(own.values(), key=lambda p: p.version))


def pod_of(model: Model, state: ObservedState, memory: Memory) -> PodFacts | None:
    """Return the newest of them."""
    pods = pods_of(model, state, memory)
    return pods[-1] if pods else None


def _engine(pod: PodFacts, model: Model) -> bool:
    return pod.name == pod_name(model)
