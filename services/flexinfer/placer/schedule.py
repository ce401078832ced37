"""The node for a Model: the best of all, or of those that its shared group leaves. Pure.

Best by this order (`fit.Candidate`): where its data is, measured device memory, the tightest fit, the least loaded, the first by name.
"""

import math
from collections.abc import Iterator, Sequence

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.placer import binding, messages
from flexinfer.placer.binding import offers_on
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.footprint import recorded
from flexinfer.placer.freelist import free_lists
from flexinfer.placer.occupancy import Occupancy
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable

_Order = tuple[int, float, float, float, int, str]
"""The place among the nodes with the data, then what `fit.Candidate.order` has."""


def best_placement(model: Model, placements: PlacementState) -> Placement | str:
    """Return the placement on the best node, or the message on why no node can run the Model."""
    nodes, scope = _nodes_to_try(model, placements)
    best: tuple[_Order, Candidate] | None = None
    reasons: dict[str, Unschedulable] = {}
    full: list[str] = []
    occupancy = Occupancy(placements, model)
    for bound, name in _in_order(model, nodes, occupancy, placements):
        if best is not None and best[0] <= bound:
            break
        if occupancy.is_full(name):
            full.append(name)
            continue
        result = occupancy.evaluate(name)
        if isinstance(result, Unschedulable):
            reasons[name] = result
            continue
        order = (bound[0], *result.order)
        best = (order, result) if best is None or order < best[0] else best
    if best is not None:
        return _placement(model, best[1], placements)
    refused = ((name, occupancy.evaluate(name)) for name in full)  # nothing but the message needs these
    reasons |= {name: result for name, result in refused if isinstance(result, Unschedulable)}
    return messages.no_node_fits(reasons, scope)


def _in_order(
    model: Model, nodes: Sequence[str], occupancy: Occupancy, placements: PlacementState
) -> Iterator[tuple[_Order, str]]:
    """Yield nodes with a bound that no result there is below, the lowest first: the data's own nodes, then the best by measured memory.

    There is no bound where memory that is in use counts as free: in a group, or while a former Pod runs.
    """
    tried = set(nodes) if model.spec.group else placements.observed.nodes
    with_data = placements.data_nodes(model)
    local = [name for name in with_data if name in tried]
    yield from (((place, -math.inf, 0.0, 0.0, 0, ""), name) for place, name in enumerate(local))
    place, of_group = len(with_data), -math.inf if model.spec.group else 0.0
    for slack, models, name in _bounds(model, nodes, occupancy, placements):
        if name not in local:
            yield (place, of_group, 0.0, slack, models, name), name


def _bounds(
    model: Model, nodes: Sequence[str], occupancy: Occupancy, placements: PlacementState
) -> Iterator[tuple[float, int, str]]:
    """Yield the least slack and number of Models that a result on a node may have, the lowest first."""
    requirements, observed = placements.requirements(model), placements.observed
    if not requirements.devices:
        yield from sorted((0.0, placements.models_on(name, model), name) for name in nodes)
    elif model.spec.group or placements.pods(model):
        yield from ((-math.inf, 0, name) for name in nodes)
    else:
        # What others will still take there makes a fit tighter than measured: perhaps perfect.
        busy = (name for name in observed.busy if name in observed.nodes and not occupancy.is_full(name))
        lists = free_lists(observed.nodes, observed.gpus)
        unsettled = {name for name in busy if occupancy.is_unsettled(name)} | lists.claimed
        yield from ((-math.inf, 0, name) for name in sorted(unsettled))
        yield from (
            (slack, 0, name) for slack, name in lists.least_slack(requirements) if name not in unsettled
        )


def _placement(model: Model, best: Candidate, placements: PlacementState) -> Placement:
    requirements = placements.requirements(model)
    placement = Placement(
        node=best.node,
        devices=placed_devices(best.devices),
        vendor=best.vendor,
        architecture=best.architecture,
        score=best.score,
        checked_for=checked_for(model, requirements),
        reason=best.reason,
    )
    placement = recorded(placement, model, placements.devices(best.node))
    return (
        offers_on(placements, best.node)[best.vendor].bound(placement) if requirements.devices else placement
    )


def checked_for(model: Model, requirements: Requirements) -> str:
    """Return what a check of free memory that is made now is valid for: the present start, or none.

    While the weights are not complete, their headers may still say what the Model needs, so a check without knowing that is none.
    """
    wanted = model.condition(conditions.WANTED)
    if wanted is None or not wanted.true or not model.spec.devices or model.spec.group:
        return ""
    final = requirements.footprint_source or model.is_true(conditions.CACHED)
    return wanted.last_transition_time if final else ""


def _nodes_to_try(model: Model, placements: PlacementState) -> tuple[Sequence[str], str]:
    """Return the nodes to evaluate, and what narrows them: members of a shared group share one node.

    A group moves as a whole, and only while no member holds the turn or runs: to a node that could run all
    of them.
    """
    nodes = free_lists(placements.observed.nodes, placements.observed.gpus).names
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


def scheduled_message(model: Model, placement: Placement, placements: PlacementState) -> str:
    """Return the message of a placement, with what may go wrong there."""
    requirements, architecture = placements.requirements(model), placement.architecture
    warnings = []
    if requirements.devices and not placement.devices:
        why = placements.telemetry.silence(placement.node, placement.vendor)
        warnings = [messages.memory_unknown(placement.node, placement.vendor, why)]
    warnings += messages.offered_twice(placement, binding.offered_twice(placements, placement))
    failing = requirements.doubt(placement.vendor, architecture, certain=True)
    doubtful = requirements.doubt(placement.vendor, architecture, certain=False)
    if failing and requirements.excuse:
        warnings.append(messages.excused(requirements.backend, architecture, failing, requirements.excuse))
    elif doubtful:
        warnings.append(messages.experimental(requirements.backend, architecture, doubtful))
    return messages.scheduled(placement, warnings)
