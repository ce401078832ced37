"""Which node does each Model run on? Decides the condition Placed with its placement. Pure.

A refusal is decided again on every change. A placement is kept: it is checked again only while the Model
should run and has no Pod, or when its spec changed so that the node cannot run it. A Model with devices
never leaves a node just because the node is not ready: its process may still hold the device. What this
module does not do: whether a node fits (`fit`), what other Models take there (`state`), and making room for
a Model (the reaper and the arbiter).
"""

from collections.abc import Iterator

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import HEADERS, MEASURED, Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.status import PlacedStatus
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer import binding, messages, outcome
from flexinfer.placer.claims import has_loaded, sampled_since
from flexinfer.placer.fit import AWAITED, Candidate, evaluate
from flexinfer.placer.footprint import measured, recorded, remembered
from flexinfer.placer.health import (
    GONE_SECONDS,
    is_unhealthy,
    silence_unread,
    unhealthy_since,
)
from flexinfer.placer.nodeview import Scheduled
from flexinfer.placer.picked import differs, out_of_use, picked
from flexinfer.placer.schedule import best_placement, checked_for, scheduled_message
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Rank
from flexinfer.state import actions
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus
from flexinfer.state.index import scheduled_to, should_run
from flexinfer.state.observed import ObservedState


def decide(state: ObservedState, key: str, now: float) -> Iterator[WriteStatus | RequeueAt | CatchUp]:
    """Yield the status of a Model if it changes, and when time alone changes it.

    Other Models count as they will be once their writes have arrived, so that decisions one after the other never
    give the same capacity twice. Each write makes those dirty that it may alter (`keys`): all is settled when no
    decision yields a write. A node counts as lost for its silence only once everything was read that was sent meanwhile.
    """
    model = state.models.get(key)
    if model is None:
        return
    placements = PlacementState(state, model, now)
    status = _status(model, placements)
    if status is not None:
        if status.condition.reason == Reason.NODE_GONE and silence_unread(model, placements):
            yield CatchUp()
            return
        write = outcome.write(model, status)
        if write is not None:
            yield write
    due = _due(model, placements)
    if due is not None and due > now:
        yield RequeueAt(due)


def _status(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model; None if it stays as it is."""
    if model.deleting:
        return None
    if scheduled_to(model):
        return _assigned(model, placements)
    if not model.is_true(conditions.ACCEPTED):
        return _not_accepted(model, placements)
    placed = model.condition(conditions.PLACED)
    if placed is not None and placed.reason == Reason.NODE_GONE and placements.pods(model):
        return outcome.not_placed(model, Reason.NODE_GONE, placed.message, model.status.placement)
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
    return outcome.not_placed(
        model, Reason.NOT_ACCEPTED, messages.WAITING, _running_placement(model, placements)
    )


def _assigned(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model that has a node."""
    pods, accepted = placements.pods(model), model.is_true(conditions.ACCEPTED)
    node = placements.observed.nodes.get(scheduled_to(model))
    if node is None or node.out_of_service:
        if accepted and not pods:
            return _schedule(model, placements)
        return _node_gone(model, placements, "was deleted" if node is None else "is out of service")
    if node.ready != conditions.TRUE and pods:
        return _unhealthy(model, placements)
    if differs(model, uuids := picked(model, placements)):
        return _picked(model, placements, uuids)
    if model.condition_status(conditions.PLACED) != conditions.TRUE:
        return _reassess(model, node, placements)
    if accepted and pods and not model.spec.group and (device := out_of_use(model, placements)) is not None:
        return _leave(model, placements, device)
    if accepted and should_run(model) and not pods:
        return _start(model, placements)
    return _settled(model, placements)


def _picked(model: Model, placements: PlacementState, uuids: tuple[str, ...]) -> PlacedStatus:
    """Return the status that names the devices that the engine has got in place of those that it was placed on.

    The architecture stays that for which its Pod was made: another one would be another template, and a restart for nothing.
    """
    placement = model.status.placement or Placement()
    new_placement = msgspec.structs.replace(placement, devices=placed_devices(uuids))
    new_placement = recorded(new_placement, model, placements.devices(placement.node))
    return outcome.placed(
        model, new_placement, Reason.PLACED, scheduled_message(model, new_placement, placements)
    )


def _settled(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model that stays where it is, if its footprint is known better now; a node that is too small is left.

    That is so once the headers of its weights were read, and once its engine is seen to hold memory.
    """
    node, pods = scheduled_to(model), placements.pods(model)
    measurement = (
        measured(model, pods, placements.devices(node)) if has_loaded(placements, model, node) else None
    )
    if measurement is not None:
        return _keep(measurement, placements)
    if model.is_true(conditions.ACCEPTED) and _has_another_footprint(model, placements):
        must_move = not pods and _mismatches(model, placements.observed.nodes[node], placements)
        return _schedule(model, placements) if must_move else _keep(model, placements)
    return _keep(model, placements) if is_unhealthy(model) or binding.differs(placements, model) else None


def _has_another_footprint(model: Model, placements: PlacementState) -> bool:
    """Return whether headers or a measurement say something else than the placement; what the spec states changes with its generation."""
    placement, requirements = model.status.placement or Placement(), placements.requirements(model)
    recorded_as = placement.footprint_mb, placement.footprint_source
    current = requirements.footprint, requirements.footprint_source
    return requirements.footprint_source in (HEADERS, MEASURED) and recorded_as != current


def _leave(model: Model, placements: PlacementState, device: Device) -> PlacedStatus:
    """Return the status of a Model that runs on a device which must not be used: on another node, or why it stays.

    Its Pod keeps its device as long as it lives, so that another device of the same node is for a new Pod. In a shared group the turn is of
    this device, and the group stays with it until its memory is known to be free.
    """
    best, node = best_placement(model, placements), scheduled_to(model)
    if isinstance(best, Scheduled) and best.placement.node != node:
        return outcome.placed(model, best.placement, Reason.PLACED, best.message)
    elsewhere = best if isinstance(best, str) else messages.other_device(model.metadata)
    message = messages.out_of_use(device.uuid, node, device.out_of_use, elsewhere)
    return outcome.placed(model, model.status.placement, Reason.DEVICE_OUT_OF_USE, message)


def _reassess(model: Model, node: NodeFacts, placements: PlacementState) -> PlacedStatus | None:
    """Return the status for a newer spec: a node that could run it is kept, whatever is free there now.

    What is free shows the engine of the former spec, which stops before the new one starts.
    """
    if not model.is_true(conditions.ACCEPTED):
        return _keep(model, placements) if is_unhealthy(model) else None
    if _mismatches(model, node, placements) or _resized(model, placements):
        return _schedule(model, placements)
    return _keep(model, placements)


def _mismatches(model: Model, node: NodeFacts, placements: PlacementState) -> bool:
    """Return whether a node can never run a Model, whatever is free there."""
    return placements.view(node.name).mismatch(placements.requirements(model)) is not None


def _start(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status of a Model that should start and has no Pod: its node and devices have room now, or it moves or waits.

    A placement whose devices are not known is made again: telemetry may know them now. What telemetry shows that is older than the wish to
    start proves nothing against it: it may show an engine that has stopped since, and the next sample decides. One that holds a turn stays:
    its turn is of these devices, and the next one is given where it is placed then.
    """
    if placements.turn(model) is not None:
        return _keep(model, placements) if binding.differs(placements, model) else None
    group, placement = placements.group_of(model), model.status.placement or Placement()
    if group is not None and not group.offers(scheduled_to(model), placement.uuids):
        return _schedule(model, placements)
    requirements = placements.requirements(model)
    available = placements.available(model, scheduled_to(model), assigned=True, only=placement.uuids)
    result = evaluate(requirements, available)
    if isinstance(result, Candidate):
        named_now = bool(result.devices) and not placement.uuids
        return _schedule(model, placements) if named_now else _checked(model, placements)
    unproven = result.rank == Rank.MEMORY_IN_USE and not sampled_since(placements, model, scheduled_to(model))
    if unproven or (result.rank == Rank.SILENT and available.telemetry == AWAITED):
        return _keep(model, placements) if is_unhealthy(model) else None
    return _schedule(model, placements)


def _checked(model: Model, placements: PlacementState) -> PlacedStatus | None:
    """Return the status that says that the Model may start, if it does not say so yet."""
    current = model.status.placement or Placement()
    valid_for = checked_for(model, placements.requirements(model))
    differs = is_unhealthy(model) or binding.differs(placements, model)
    differs = differs or _has_another_footprint(model, placements)
    if not differs and current.checked_for == valid_for:
        return None
    return _keep(model, placements, checked=True)


def _resized(model: Model, placements: PlacementState) -> bool:
    """Return whether a newer spec asks for another number or vendor of devices than the placement has."""
    requirements, placement = placements.requirements(model), model.status.placement or Placement()
    number = len(placement.devices) or requirements.devices
    return number != requirements.devices or placement.vendor not in requirements.vendors


def _unhealthy(model: Model, placements: PlacementState) -> PlacedStatus:
    """Return the status of a Model with Pods on a node that is not ready."""
    node, since, has_devices = scheduled_to(model), unhealthy_since(model, placements), model.spec.devices > 0
    if not has_devices and since is not None and placements.now >= since + GONE_SECONDS:
        return _node_gone(model, placements, f"was not ready for {GONE_SECONDS:.0f}s")
    message = messages.node_unhealthy(node, devices=has_devices, seconds=GONE_SECONDS)
    return outcome.placed(model, model.status.placement, Reason.NODE_NOT_READY, message)


def _keep(model: Model, placements: PlacementState, *, checked: bool = False) -> PlacedStatus:
    """Return the status of a Model that keeps its node and devices, with the footprint of its present spec.

    Nothing of the placement but the footprint is computed again: devices and vendor are those that its Pod was started on. Before it has a
    Pod, the way in which that gets them is too. `checked`: its free memory was found to be enough for the present start.
    """
    requirements, placement = placements.requirements(model), model.status.placement or Placement()
    new_placement = recorded(placement, model, placements.devices(placement.node))
    if checked:
        new_placement = msgspec.structs.replace(new_placement, checked_for=checked_for(model, requirements))
    new_placement = binding.bound(placements, model, new_placement)
    return outcome.placed(
        model, new_placement, Reason.PLACED, scheduled_message(model, new_placement, placements)
    )


def _node_gone(model: Model, placements: PlacementState, cause: str) -> PlacedStatus:
    message = messages.node_gone(scheduled_to(model), cause, pods=bool(placements.pods(model)))
    return outcome.not_placed(model, Reason.NODE_GONE, message, model.status.placement)


def _schedule(model: Model, placements: PlacementState) -> PlacedStatus:
    """Return the status with the best node, or why none fits."""
    best = best_placement(model, placements)
    if isinstance(best, str):
        return outcome.not_placed(model, Reason.NO_NODE_FITS, best, _running_placement(model, placements))
    return outcome.placed(model, best.placement, Reason.PLACED, best.message)


def _running_placement(model: Model, placements: PlacementState) -> Placement | None:
    """Return the placement of a Model that is not placed any more but still has Pods; of one that has none, what is remembered of it."""
    return model.status.placement if placements.pods(model) else remembered(model)


def _due(model: Model, placements: PlacementState) -> float | None:
    """Return when time alone changes the status."""
    devices = model.spec.devices
    if not devices and (since := unhealthy_since(model, placements)) is not None:
        return since + GONE_SECONDS
    if not model.is_true(conditions.ACCEPTED):
        return _first_write_due(model, placements)
    if not devices or not _is_open(model, placements):
        return None
    node = scheduled_to(model)
    if not node:
        return placements.telemetry.first_due()
    group = placements.group_of(model)
    return placements.telemetry.due((node, group.node if group is not None else ""))


def _is_open(model: Model, placements: PlacementState) -> bool:
    """Return whether the Model is to be placed, or may have to leave its node before it starts."""
    return not model.is_true(conditions.PLACED) or (should_run(model) and not placements.pods(model))


def _first_write_due(model: Model, placements: PlacementState) -> float | None:
    first_seen_at = placements.observed.first_seen.get(model.uid)
    return actions.first_write_due(model, conditions.PLACED, first_seen_at, placements.now)
