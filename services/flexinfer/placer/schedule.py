"""The node for a Model: the best of all, or of those that its shared group leaves. Pure.

Best by this order (`fit.Candidate`): where its data is, measured device memory, the tightest fit, the least loaded, the first by name.
"""

from collections.abc import Sequence

from flexinfer.api import conditions
from flexinfer.api.model import Model, Placement, placed_devices
from flexinfer.placer import messages
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable

BINDING = "DevicePlugin"


def best_placement(model: Model, placements: PlacementState) -> Placement | str:
    """Return the placement on the best node, or the message on why no node can run the Model."""
    requirements = placements.requirements(model)
    nodes, scope = _nodes_to_try(model, placements)
    results = {n: evaluate(requirements, placements.available(model, n, assigned=False)) for n in nodes}
    candidates = [result for result in results.values() if isinstance(result, Candidate)]
    if not candidates:
        reasons = {name: result for name, result in results.items() if isinstance(result, Unschedulable)}
        return messages.no_node_fits(reasons, scope)
    local = placements.data_nodes(model)
    best = min(candidates, key=lambda c: (local.index(c.node) if c.node in local else len(local), *c.order))
    return Placement(
        node=best.node,
        devices=placed_devices(best.devices, requirements.device_mb),
        vendor=best.vendor,
        architecture=best.architecture,
        binding=BINDING if requirements.devices else "",
        score=best.score,
        footprint_mb=requirements.footprint,
        footprint_source=requirements.footprint_source,
        checked_for=checked_for(model),
        reason=best.reason,
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
