"""Which node does each Model run on? Decides the condition Placed with its placement. Pure.

A refusal is decided again on every change. A placement is kept: it is checked again only while the Model
should run and has no Pod, or when its spec changed so that the node cannot run it. A Model with devices
never leaves a node just because the node is not ready: its process may still hold the device. What this
module does not do: whether a node fits (`fit`), what other Models take there (`state`), and making room for
a Model (the reaper and the arbiter).
"""

from collections.abc import Iterator, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import Model, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import SERVICES
from flexinfer.api.status import PlacedStatus
from flexinfer.events.nodes import NodeFacts
from flexinfer.placer import messages
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.mismatch import Unschedulable, static_mismatch
from flexinfer.placer.state import PlacementState, node_of, should_run
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

GONE_SECONDS = 60.0
"""How long a node may be not ready before a Model without devices leaves it."""
BINDING = "DevicePlugin"


def decide(state: ObservedState, key: str, now: float) -> Iterator[WriteStatus | RequeueAt]:
    """Yield the status of a Model if it changes, and when time alone changes it.

    Other Models count as they will be once their writes have arrived, so that decisions one after the other never
    give the same capacity twice. Each write makes those dirty that it may alter (`keys`): all is settled when no
    decision yields a write.
    """
    model = state.models.get(key)
    if model is None:
        return
    placements = PlacementState(state, model, now)
    status = _status(model, placements)
    write = _write(model, status) if status is not None else None
    if write is not None:
        yield write
    due = _due(model, placements)
    if due is not None and due > now:
        yield RequeueAt(due)


def _status(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model; None if it stays as it is."""
    placed = model.condition(conditions.PLACED)
    if model.deleting:
        return None
    if node_of(model):
        return _assigned(model, placements)
    if not model.is_true(conditions.ACCEPTED):
        return _not_accepted(model, placements)
    if placed is not None and placed.reason == Reason.NODE_GONE and placements.pods(model):
        return _not_placed(model, Reason.NODE_GONE, placed.message, model.status.placement)
    return _schedule(model, placements)


def _not_accepted(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model without a node whose spec is not accepted.

    While a newer spec is not judged yet, the status for the former one stays.
    """
    placed = model.condition(conditions.PLACED)
    unjudged = model.condition_status(conditions.ACCEPTED) == conditions.UNKNOWN
    if placed is not None and (placed.true or unjudged):
        return None
    if _first_write_due(model, placements) is not None:
        return None
    return _not_placed(model, Reason.NOT_ACCEPTED, messages.WAITING, _running_placement(model, placements))


def _assigned(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model that has a node."""
    pods, accepted = placements.pods(model), model.is_true(conditions.ACCEPTED)
    node = placements.observed.nodes.get(node_of(model))
    if node is None or _out_of_service(node):
        if accepted and not pods:
            return _schedule(model, placements)
        return _node_gone(model, placements, "was deleted" if node is None else "is out of service")
    if node.ready != conditions.TRUE and pods:
        return _unhealthy(model, placements)
    if model.condition_status(conditions.PLACED) != conditions.TRUE:
        return _reassess(model, node, placements)
    if accepted and should_run(model) and not pods and not _still_fits(model, placements):
        return _schedule(model, placements)
    return _keep(model, placements) if _is_unhealthy(model) else None


def _out_of_service(node: NodeFacts) -> bool:
    return any(taint.key == OUT_OF_SERVICE_TAINT for taint in node.taints)


def _reassess(model: Model, node: NodeFacts, placements: PlacementState) -> PlacedStatus | None:
    """Return the status for a newer spec: a node that could run it is kept, whatever is free there now.

    What is free shows the engine of the former spec, which stops before the new one starts.
    """
    if not model.is_true(conditions.ACCEPTED):
        return _keep(model, placements) if _is_unhealthy(model) else None
    mismatch = static_mismatch(placements.requirements(model), node, placements.devices(node.name))
    if mismatch is not None or _resized(model, placements):
        return _schedule(model, placements)
    return _keep(model, placements)


def _still_fits(model: Model, placements: PlacementState) -> bool:
    """Tell whether a Model that should start can do so on its node and devices.

    One that holds a turn stays: its turn is of these devices, and the next one is given where it is placed then.
    """
    if placements.turn(model) is not None:
        return True
    group, placement = placements.group_of(model), model.status.placement or Placement()
    if group is not None and group.node != node_of(model):
        return False
    available = placements.available(model, node_of(model), assigned=True)
    if not available.reserved.isdisjoint(placement.devices):
        return False
    return isinstance(evaluate(placements.requirements(model), available), Candidate)


def _resized(model: Model, placements: PlacementState) -> bool:
    """Tell whether a newer spec asks for another number or vendor of devices than the placement has."""
    requirements, placement = placements.requirements(model), model.status.placement or Placement()
    number = len(placement.devices) or requirements.devices
    return number != requirements.devices or placement.vendor not in requirements.vendors


def _unhealthy(model: Model, placements: PlacementState) -> PlacedStatus:
    """Return the status of a Model with Pods on a node that is not ready."""
    node, since, has_devices = node_of(model), _unhealthy_since(model, placements), model.spec.devices > 0
    if not has_devices and since is not None and placements.now - since >= GONE_SECONDS:
        return _node_gone(model, placements, f"was not ready for {GONE_SECONDS:.0f}s")
    message = messages.node_unhealthy(node, devices=has_devices, seconds=GONE_SECONDS)
    return _placed(model, model.status.placement, Reason.NODE_NOT_READY, message)


def _is_unhealthy(model: Model) -> bool:
    """Tell whether the Model's condition says that its node is not ready."""
    placed = model.condition(conditions.PLACED)
    return placed is not None and placed.true and placed.reason == Reason.NODE_NOT_READY


def _unhealthy_since(model: Model, placements: PlacementState) -> float | None:
    """Return since when the Model's condition says that its node is not ready."""
    if not _is_unhealthy(model):
        return None
    return placements.observed.changed(model, conditions.PLACED)


def _keep(model: Model, placements: PlacementState) -> PlacedStatus:
    """Return the status of a Model that keeps its node and devices, with the footprint of its present spec.

    Nothing of the placement but the footprint is computed again: devices and vendor are those that its Pod
    was started on.
    """
    requirements, placement = placements.requirements(model), model.status.placement or Placement()
    kept = msgspec.structs.replace(placement, footprint=requirements.footprint)
    return _placed(model, kept, Reason.PLACED, messages.scheduled(kept))


def _node_gone(model: Model, placements: PlacementState, cause: str) -> PlacedStatus:
    message = messages.node_gone(node_of(model), cause, pods=bool(placements.pods(model)))
    return _not_placed(model, Reason.NODE_GONE, message, model.status.placement)


def _schedule(model: Model, placements: PlacementState) -> PlacedStatus:
    """Return the status with the best node: the present one if it fits, else the tightest fit."""
    requirements, current = placements.requirements(model), model.status.placement or Placement()
    nodes, scope = _nodes_to_try(model, placements)
    results = {n: evaluate(requirements, placements.available(model, n, assigned=False)) for n in nodes}
    candidates = [result for result in results.values() if isinstance(result, Candidate)]
    if not candidates:
        reasons = {name: result for name, result in results.items() if isinstance(result, Unschedulable)}
        message = messages.no_node_fits(reasons, scope)
        return _not_placed(model, Reason.NO_NODE_FITS, message, _running_placement(model, placements))
    best = min(candidates, key=lambda c: (c.node != current.node, c.slack, c.node))
    placement = Placement(
        node=best.node,
        devices=best.devices,
        vendor=best.vendor,
        architecture=best.architecture,
        binding=BINDING if requirements.devices else "",
        score=best.score,
        footprint=requirements.footprint,
        reason=best.reason,
    )
    condition = actions.true(model, conditions.PLACED, Reason.PLACED, messages.scheduled(placement))
    return PlacedStatus(condition=condition, placement=placement)


def _nodes_to_try(model: Model, placements: PlacementState) -> tuple[Sequence[str], str]:
    """Return the nodes to evaluate, and what narrows them: members of a shared group share one node.

    A group moves as a whole, and only while no member holds the turn or runs: to a node that could run all
    of them.
    """
    nodes = sorted(placements.observed.nodes)
    group = placements.group_of(model)
    if group is None or group.node not in placements.observed.nodes:
        return nodes, ""
    scope = messages.group_scope(group.group, group.node)
    if group.pinned:
        return [group.node], scope
    available = placements.available(model, group.node, assigned=False)
    if isinstance(evaluate(placements.requirements(model), available), Candidate):
        return [group.node], scope
    suitable = [name for name in nodes if placements.suits_group(model, name)]
    return (suitable, "") if suitable else ([group.node], scope)


def _running_placement(model: Model, placements: PlacementState) -> Placement | None:
    """Return the placement of a Model that is not placed any more but still has Pods."""
    return model.status.placement if placements.pods(model) else None


def _placed(model: Model, placement: Placement | None, reason: Reason, message: str) -> PlacedStatus:
    """Return the status of a Model that keeps its placement.

    While its newer spec is not accepted, the condition stays one of the generation that it was decided for.
    """
    condition = actions.true(model, conditions.PLACED, reason, message)
    current = model.condition(conditions.PLACED)
    if current is not None and not model.is_true(conditions.ACCEPTED):
        condition = msgspec.structs.replace(condition, observed_generation=current.observed_generation)
    return PlacedStatus(condition=condition, placement=placement)


def _not_placed(model: Model, reason: Reason, message: str, placement: Placement | None) -> PlacedStatus:
    condition = actions.false(model, conditions.PLACED, reason, message)
    return PlacedStatus(condition=condition, placement=placement)


def _with(model: Model, placed: PlacedStatus) -> Model:
    """Return the Model as it will be once the status is written."""
    others = tuple(c for c in model.status.conditions if c.type != conditions.PLACED)
    status = msgspec.structs.replace(
        model.status, conditions=(*others, placed.condition), placement=placed.placement
    )
    return msgspec.structs.replace(model, status=status)


def _write(model: Model, placed: PlacedStatus) -> WriteStatus | None:
    """Return the write of a status; None if the Model has it, or one with nearly the same free memory."""
    condition = _with_current_message(placed.condition, model.condition(conditions.PLACED))
    status = PlacedStatus(condition=condition, placement=placed.placement)
    return actions.write_if_changed(model, status, gates=SERVICES["placer"].gates)


def _with_current_message(condition: Condition, current: Condition | None) -> Condition:
    if current is None or not messages.nearly_equal(current.message, condition.message):
        return condition
    unchanged = msgspec.structs.replace(condition, message=current.message)
    return unchanged if conditions.same(current, unchanged) else condition


def _due(model: Model, placements: PlacementState) -> float | None:
    """Return when time alone changes the status."""
    since = _unhealthy_since(model, placements)
    if since is not None and not model.spec.devices:
        return since + GONE_SECONDS
    if not model.is_true(conditions.ACCEPTED):
        return _first_write_due(model, placements)
    return (
        placements.telemetry_due(node_of(model))
        if model.spec.devices and _is_open(model, placements)
        else None
    )


def _is_open(model: Model, placements: PlacementState) -> bool:
    """Tell whether the Model is to be placed, or may have to leave its node before it starts."""
    return not placements.pods(model) and (not model.is_true(conditions.PLACED) or should_run(model))


def _first_write_due(model: Model, placements: PlacementState) -> float | None:
    first_seen = placements.observed.first_seen.get(model.uid)
    return actions.first_write_due(model, conditions.PLACED, first_seen, placements.now)


__all__ = ["BINDING", "GONE_SECONDS", "decide"]
