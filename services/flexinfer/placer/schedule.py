"""The node for a Model: the best of all, or of those that its shared group leaves. Pure.

Best by this order (`fit.Candidate`): where its data is, measured device memory, the tightest fit, the least loaded, the first by name.
"""

import math
from collections.abc import Iterator, Sequence

from flexinfer.api import conditions
from flexinfer.api.model import Model, Placement, placed_devices
from flexinfer.placer import messages
from flexinfer.placer.binding import offers_on
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.freelist import least_slack
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable

_Order = tuple[int, float, float, float, int, str]
"""The place among the nodes with the data, then what `fit.Candidate.order` has."""


def best_placement(model: Model, placements: PlacementState) -> Placement | str:
    """Return the placement on the best node, or the message on why no node can run the Model."""
    requirements = placements.requirements(model)
    nodes, scope = _nodes_to_try(model, placements)
    best: tuple[_Order, Candidate] | None = None
    reasons: dict[str, Unschedulable] = {}
    for bound, name in _in_order(model, nodes, placements):
        if best is not None and best[0] <= bound:
            break
        result = evaluate(requirements, placements.available(model, name, assigned=False))
        if isinstance(result, Unschedulable):
            reasons[name] = result
            continue
        order = (bound[0], *result.order)
        best = (order, result) if best is None or order < best[0] else best
    return messages.no_node_fits(reasons, scope) if best is None else _placement(model, best[1], placements)


def _in_order(model: Model, nodes: Sequence[str], placements: PlacementState) -> Iterator[tuple[_Order, str]]:
    """Yield nodes with a bound that no result there is below, the lowest first: the data's own nodes, then the best by measured memory.

    There is no bound where memory that is in use counts as free: in a group, or while a former Pod runs.
    """
    local = [name for name in placements.data_nodes(model) if name in nodes]
    yield from (((place, -math.inf, 0.0, 0.0, 0, ""), name) for place, name in enumerate(local))
    place, of_group = len(placements.data_nodes(model)), -math.inf if model.spec.group else 0.0
    for slack, models, name in _bounds(model, nodes, placements):
        if name not in local:
            yield (place, of_group, 0.0, slack, models, name), name


def _bounds(
    model: Model, nodes: Sequence[str], placements: PlacementState
) -> Iterator[tuple[float, int, str]]:
    """Yield the least slack and number of Models that a result on a node may have, the lowest first."""
    requirements, observed = placements.requirements(model), placements.observed
    if not requirements.devices:
        yield from sorted((0.0, placements.models_on(name, model), name) for name in nodes)
    elif model.spec.group or placements.pods(model):
        yield from ((-math.inf, 0, name) for name in nodes)
    else:
        ordered = least_slack(requirements, observed.nodes, observed.gpus)
        # What others will take there makes a fit tighter than measured: perhaps perfect.
        busy = sorted(name for name in observed.busy if name in observed.nodes)
        yield from ((-math.inf, 0, name) for name in busy)
        yield from ((slack, 0, name) for slack, name in ordered if name not in observed.busy)


def _placement(model: Model, best: Candidate, placements: PlacementState) -> Placement:
    requirements = placements.requirements(model)
    placement = Placement(
        node=best.node,
        devices=placed_devices(best.devices, requirements.device_mb),
        vendor=best.vendor,
        architecture=best.architecture,
        score=best.score,
        footprint_mb=requirements.footprint,
        footprint_source=requirements.footprint_source,
        checked_for=checked_for(model),
        reason=best.reason,
    )
    return (
        offers_on(placements, best.node)[best.vendor].bound(placement) if requirements.devices else placement
    )


def checked_for(model: Model) -> str:
    """Return what a check of free memory that is made now is valid for: the present start, or none."""
    wanted = model.condition(conditions.WANTED)
    starts = wanted is not None and wanted.true and model.spec.devices and not model.spec.group
    return wanted.last_transition_time if wanted is not None and starts else ""


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
