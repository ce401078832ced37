"""The node for a Model: the best of all, or of those that its shared group leaves. Pure.

Best by this order (`fit.Candidate`): where its data is, measured device memory, the tightest fit, the least loaded, the first by name.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import MEASURED, Placement
from flexinfer.placer import answers, binding, messages
from flexinfer.placer.fit import Candidate, evaluate
from flexinfer.placer.footprint import remembered
from flexinfer.placer.freelist import Slack, free_lists
from flexinfer.placer.nodeview import KeptCandidate, NodeView, Scheduled
from flexinfer.placer.occupancy import Occupancy
from flexinfer.placer.offers import Offer
from flexinfer.placer.requirements import Requirements
from flexinfer.placer.state import PlacementState
from flexinfer.placer.unschedulable import Unschedulable
from flexinfer.placer.unsettled import unsettled
from flexinfer.state.observed import ObservedState

_NO_OFFER = Offer()
_Refused = dict[str, Unschedulable | None]
"""Why each node cannot run the Model; None: it is full, and the words are not made yet."""


def best_placement(model: Model, placements: PlacementState) -> Scheduled | str:
    """Return the placement on the best node with its message, or the message on why no node can run the Model."""
    occupancy, state = Occupancy(placements, model), placements.observed
    answer = answers.kept(occupancy.requirements, state, placements.now) if occupancy.like_others else None
    if answer is None:
        return _searched(model, occupancy, placements)
    if isinstance(answer, str):
        return answer
    # A node with the data is better than the best of all; where it is refused, it is none of these.
    local = [name for name in placements.data_nodes() if name in state.nodes]
    best = _first_that_fits(local, occupancy, {}) or _least_loaded(answer, placements)
    return _scheduled(model, best, occupancy.requirements, placements)


def _searched(model: Model, occupancy: Occupancy, placements: PlacementState) -> Scheduled | str:
    """Look for the best node: one with the Model's data, whatever else is free, and else of all the others."""
    nodes, scope = _nodes_to_try(model, placements)
    results: _Refused = {}
    candidates = set(nodes) if model.spec.group else placements.observed.nodes
    local = [name for name in placements.data_nodes() if name in candidates]
    best = _first_that_fits(local, occupancy, results)
    if best is None and occupancy.requirements.devices:
        best = _tightest(nodes, local, occupancy, placements, results)
    elif best is None:
        fewest = sorted((placements.models_on(name), name) for name in nodes)
        best = _first_that_fits([name for _, name in fewest if name not in local], occupancy, results)
    if best is None:
        return _refusal(results, scope, occupancy, placements)
    return _scheduled(model, best, occupancy.requirements, placements)


def _first_that_fits(names: Iterable[str], occupancy: Occupancy, results: _Refused) -> KeptCandidate | None:
    """Return the first of some nodes, the best first, that can run the Model."""
    for name in names:
        result = occupancy.candidate_unless_full(name)
        if isinstance(result, KeptCandidate):
            return result
        results[name] = result
    return None


def _tightest(
    nodes: Sequence[str],
    local: Sequence[str],
    occupancy: Occupancy,
    placements: PlacementState,
    results: _Refused,
) -> KeptCandidate | None:
    """Return the best of all nodes but those with the data, by `fit.Candidate.order`.

    Nodes come by a bound that no result there is below, so that most need not be looked at. There is none where memory that is in use counts
    as free: in a group, or while a former Pod runs.
    """
    best: tuple[tuple[float, float, float, int, str], KeptCandidate] | None = None
    fitting: list[KeptCandidate] = []
    complete = occupancy.like_others and not local
    slacks: Iterable[Slack] = ((-math.inf, name) for name in nodes)
    if occupancy.alone:
        slacks = _least_slack(occupancy.requirements, placements.observed)
    for slack, name in slacks:
        if best is not None and occupancy.alone and best[0] <= (0, 0, slack, 0, name):
            complete = complete and best[1].candidate.rank != (0, 0, slack)
            break
        if name in local:
            continue
        result = occupancy.candidate_unless_full(name)
        if not isinstance(result, KeptCandidate):
            results[name] = result
            continue
        fitting.append(result)
        order = result.candidate.order(placements.models_on(name))
        if best is None or order < best[0]:
            best = order, result
    if best is None:
        return None
    if complete and occupancy.like_others:
        ties = [one for one in fitting if one.candidate.rank == best[1].candidate.rank]
        _keep(ties, occupancy, placements)
    return best[1]


def _keep(ties: Sequence[KeptCandidate], occupancy: Occupancy, placements: PlacementState) -> None:
    """Keep the best nodes of all for every Model of the class: of these, the least loaded one is the best for each."""
    by_name = tuple(sorted(ties, key=lambda one: one.candidate.node))
    due = placements.telemetry.first_due()
    answers.keep(occupancy.requirements, placements.observed, due, by_name)


def _least_loaded(ties: Sequence[KeptCandidate], placements: PlacementState) -> KeptCandidate:
    """Return the node with the fewest Models of nodes that are equally good, the first by name."""
    if len(ties) == 1:
        return ties[0]
    loads = placements.loads([one.candidate.node for one in ties])
    return ties[loads.index(min(loads))]


def _refusal(
    results: Mapping[str, Unschedulable | None], scope: str, occupancy: Occupancy, placements: PlacementState
) -> str:
    """Return why no node can run the Model; of one that is full the words are made only now, since nothing but this message needs them."""
    reasons = ((name, reason or occupancy.evaluate(name)) for name, reason in results.items())
    message = messages.no_node_fits({name: r for name, r in reasons if isinstance(r, Unschedulable)}, scope)
    if occupancy.like_others:
        answers.keep(occupancy.requirements, placements.observed, placements.telemetry.first_due(), message)
    return message


def _least_slack(requirements: Requirements, state: ObservedState) -> Iterable[Slack]:
    """Return the nodes for a Model that has devices to itself by the least slack that a result there may have, the lowest first."""
    lists = free_lists(state.nodes, state.gpus)
    least = lists.least_slack(requirements)
    # What others will still take of a node makes a fit tighter than measured: perhaps perfect.
    first = unsettled(state)
    if not first and not lists.claimed:
        return least
    first |= lists.claimed
    present = [(-math.inf, name) for name in sorted(first) if name in state.nodes]
    return chain(present, ((slack, name) for slack, name in least if name not in first))


def _scheduled(
    model: Model, best: KeptCandidate, requirements: Requirements, placements: PlacementState
) -> Scheduled:
    """Return what the best result means for a Model: what all of its class have in common, with what is its own."""
    common = best.scheduled
    if common is None:
        placement = _placement(requirements, best.candidate, placements.view(best.candidate.node))
        common = Scheduled(placement, scheduled_message(model, placement, placements))
        # Why an agent reports nothing may change with each sample, and is in the message then.
        best.scheduled = common if placement.devices or not requirements.devices else None
    measured = remembered(model) if requirements.footprint_source == MEASURED else None
    checked = checked_for(model, requirements)
    if measured is None and not checked:
        return common
    own = msgspec.structs.replace(
        common.placement,
        measured_at=measured.measured_at if measured is not None else "",
        measured_for=measured.measured_for if measured is not None else "",
        checked_for=checked,
    )
    return Scheduled(own, common.message)


def _placement(requirements: Requirements, best: Candidate, view: NodeView) -> Placement:
    """Return the placement of every Model of a class on its best node."""
    offer = view.offers[best.vendor] if requirements.devices else _NO_OFFER
    devices = offer.placed(best.devices, requirements.device_mb, view.totals)
    return Placement(
        node=best.node,
        devices=devices,
        vendor=best.vendor,
        architecture=best.architecture,
        binding=offer.binding,
        driver=offer.driver,
        runtime_class_name=offer.runtime_class,
        shared=offer.shares(devices),
        score=best.score,
        footprint_mb=requirements.vram_mb,
        footprint_source=requirements.footprint_source,
        reason=best.reason,
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
    needs = [placements.requirements(member) for member in placements.members(model)]
    suitable = [name for name in nodes if _suits_all(needs, placements.view(name))]
    return (suitable, "") if suitable else ([group.node], scope)


def _suits_all(members: Iterable[Requirements], view: NodeView) -> bool:
    """Return whether a node could run every member of a group, whatever is free there."""
    return all(view.mismatch(requirements) is None for requirements in members)


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
