"""Where does each Model live? Pure: verdicts on Placed, with numbers where the answer is no.

A refusal is decided anew on every change. A home is kept: it is looked at again only while the Model is wanted and has no Pod, or when its
spec changed so that it could not live there. Nothing is taken from a Model with devices on a node's silence alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import OUT_OF_SERVICE_TAINT
from flexinfer.api.model import Model, Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import SERVICES
from flexinfer.api.status import PlacedStatus
from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.fit import Candidate, Unschedulable, evaluate, static_mismatch
from flexinfer.placer.messages import alike, housed, refusal
from flexinfer.placer.state import PlacementState, node_of, wanted
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

GONE_SECONDS = 60.0
"""How long a node may be silent before a Model without devices leaves it."""
BINDING = "DevicePlugin"
_PASSES = 8

Verdict: TypeAlias = tuple[Condition, Placement | None]


def decide(state: ObservedState, now: float) -> Iterator[WriteStatus | RequeueAt]:
    """Yield every verdict that differs from what the Model says, all of them as they stand together."""
    world, verdicts = _together(state, now)
    for key in sorted(state.models):
        model, settled = state.models[key], world.models[key]
        verdict = verdicts[key] or (_standing_verdict(settled) if settled is not model else None)
        told = _report(model, *verdict) if verdict is not None else None
        if told is not None:
            yield told
        again = _again(model, world)
        if again is not None and again > now:
            yield RequeueAt(again)


def _together(state: ObservedState, now: float) -> tuple[PlacementState, Mapping[str, Verdict | None]]:
    """Return the world in which each placement takes the others into account, and the verdicts there."""
    world, verdicts = PlacementState(state, state.models, now), dict[str, Verdict | None]()
    for _ in range(_PASSES):
        moved = False
        for key in sorted(world.models):
            model, verdict = world.models[key], _judge(world.models[key], world)
            verdicts[key] = verdict
            after = _with(model, *verdict) if verdict is not None else model
            if node_of(after) != node_of(model):
                world, moved = PlacementState(state, {**world.models, key: after}, now), True
        if not moved:
            break
    return world, verdicts


def _standing_verdict(model: Model) -> Verdict | None:
    placed = model.condition(conditions.PLACED)
    return (placed, model.status.placement) if placed is not None else None


def _judge(model: Model, world: PlacementState) -> Verdict | None:
    """Return the verdict on a Model; None when it is not the time for one."""
    placed = model.condition(conditions.PLACED)
    if model.deleting:
        return None
    if node_of(model):
        return _housed(model, world)
    if not model.is_true(conditions.ACCEPTED):
        return _unaccepted(model, world)
    if placed is not None and placed.reason == Reason.NODE_GONE and world.pods(model):
        return _no(model, Reason.NODE_GONE, placed.message), model.status.placement
    return _choose(model, world)


def _unaccepted(model: Model, world: PlacementState) -> Verdict | None:
    """Say that Accepted is missing, unless a former verdict stands: gates do not close."""
    placed = model.condition(conditions.PLACED)
    if placed is not None and (
        placed.true or model.condition_status(conditions.ACCEPTED) == conditions.UNKNOWN
    ):
        return None
    if (
        actions.first_write_due(model, conditions.PLACED, world.state.first_seen.get(model.uid), world.now)
        is not None
    ):
        return None
    return _no(model, Reason.NOT_ACCEPTED, "a home needs Accepted"), _kept(model, world)


def _housed(model: Model, world: PlacementState) -> Verdict | None:
    """Look at a Model's home again."""
    home, pods = node_of(model), world.pods(model)
    facts = world.state.nodes.get(home)
    fenced = facts is not None and any(t.key == OUT_OF_SERVICE_TAINT for t in facts.taints)
    if facts is None or fenced:
        moves = not pods and model.is_true(conditions.ACCEPTED)
        return _choose(model, world) if moves else _gone(model, "is out of service" if fenced else "is gone")
    if facts.ready != conditions.TRUE and pods:
        return _silent(model, world)
    if model.condition_status(conditions.PLACED) != conditions.TRUE:
        return _anew(model, facts, world)
    if wanted(model) and not pods and model.is_true(conditions.ACCEPTED) and not _still_fits(model, world):
        return _choose(model, world)
    return _stays(model, world) if _silence_told(model) else None


def _anew(model: Model, facts: NodeFacts, world: PlacementState) -> Verdict | None:
    """Judge a newer spec: it stays where it could have been put, without another look at what is free."""
    if not model.is_true(conditions.ACCEPTED):
        return _stays(model, world) if _silence_told(model) else None
    lacks = static_mismatch(world.need(model), facts, world.devices(facts.name)) is not None
    return _choose(model, world) if lacks or _resized(model, world) else _stays(model, world)


def _still_fits(model: Model, world: PlacementState) -> bool:
    """Tell whether a Model that is to start can do so at home."""
    group = world.groups.get((model.metadata.namespace, model.spec.group))
    if group is not None and model.spec.group and group.node != node_of(model):
        return False
    return isinstance(
        evaluate(world.need(model), world.stock(model, node_of(model), settled=True)), Candidate
    )


def _resized(model: Model, world: PlacementState) -> bool:
    """Tell whether a newer spec asks for another number or make of devices than the home has."""
    need, placement = world.need(model), model.status.placement or Placement()
    number = len(placement.devices) or need.devices
    return number != need.devices or (placement.vendor not in need.vendors)


def _silent(model: Model, world: PlacementState) -> Verdict:
    """Judge a Model whose Pods are on a node that is not ready."""
    home, since = node_of(model), _silent_since(model, world)
    if not model.spec.devices and since is not None and world.now - since >= GONE_SECONDS:
        return _gone(model, f"has not been ready for {GONE_SECONDS:.0f} s")
    if model.spec.devices:
        exits = (
            f"{home} is not ready and its devices may be in use: the Model keeps its home until the node returns, "
            f"is deleted (kubectl delete node {home}) or is tainted {OUT_OF_SERVICE_TAINT}"
        )
    else:
        exits = f"{home} is not ready; after {GONE_SECONDS:.0f} s without a change the Model moves"
    verdict = actions.condition(model, conditions.PLACED, conditions.TRUE, Reason.NODE_NOT_READY, exits)
    return _standing(model, verdict), model.status.placement


def _silence_told(model: Model) -> bool:
    placed = model.condition(conditions.PLACED)
    return placed is not None and placed.true and placed.reason == Reason.NODE_NOT_READY


def _silent_since(model: Model, world: PlacementState) -> float | None:
    return world.state.changed_at.get((model.key, conditions.PLACED)) if _silence_told(model) else None


def _standing(model: Model, verdict: Condition) -> Condition:
    """Return a verdict that is True of the generation for which it was given, while the newer spec is not accepted."""
    former = model.condition(conditions.PLACED)
    if former is None or model.is_true(conditions.ACCEPTED):
        return verdict
    return msgspec.structs.replace(verdict, observed_generation=former.observed_generation)


def _gone(model: Model, how: str) -> Verdict:
    message = f"{node_of(model)} {how}; the Model gets another home when its Pod there is deleted"
    return _no(model, Reason.NODE_GONE, message), model.status.placement


def _stays(model: Model, world: PlacementState) -> Verdict:
    """Say again that a Model lives where it lives; a newer spec may have changed its size."""
    need, placement = world.need(model), model.status.placement or Placement()
    kept = msgspec.structs.replace(placement, footprint=need.vram_mb * need.devices)
    return _standing(model, _yes(model, kept)), kept


def _choose(model: Model, world: PlacementState) -> Verdict:
    """Take the node that the Model fills best; with devices the tightest, without the emptiest."""
    need, present = world.need(model), model.status.placement or Placement()
    nodes, scope = _candidates(model, world)
    tried = {name: evaluate(need, world.stock(model, name, settled=False)) for name in nodes}
    fitting = [t for t in tried.values() if isinstance(t, Candidate)]
    if not fitting:
        lacks = {name: t for name, t in tried.items() if isinstance(t, Unschedulable)}
        return _no(model, Reason.NO_NODE_FITS, refusal(lacks, scope)), _kept(model, world)
    best = min(fitting, key=lambda fit: (fit.node != present.node, fit.slack, fit.node))
    placement = Placement(
        node=best.node,
        devices=best.devices,
        vendor=best.vendor,
        architecture=best.architecture,
        binding=BINDING if need.devices else "",
        score=best.score,
        footprint=need.vram_mb * need.devices,
        reason=best.reason,
    )
    return _yes(model, placement), placement


def _candidates(model: Model, world: PlacementState) -> tuple[Sequence[str], str]:
    """Return the nodes to try, and what narrows the choice: members of a shared group share one home."""
    everywhere = sorted(world.state.nodes)
    group = world.groups.get((model.metadata.namespace, model.spec.group)) if model.spec.group else None
    if group is None or group.node not in world.state.nodes:
        return everywhere, ""
    scope = f" (members of the shared group {group.group} live on {group.node})"
    if group.live:
        return [group.node], scope
    at_home = evaluate(world.need(model), world.stock(model, group.node, settled=False))
    if isinstance(at_home, Candidate):
        return [group.node], scope
    others = [name for name in everywhere if world.suits_all(model, name)]
    return (others, "") if others else ([group.node], scope)


def _kept(model: Model, world: PlacementState) -> Placement | None:
    """Return where a Model runs although it has no home any more."""
    return model.status.placement if world.pods(model) else None


def _yes(model: Model, placement: Placement) -> Condition:
    return actions.condition(model, conditions.PLACED, conditions.TRUE, Reason.PLACED, housed(placement))


def _no(model: Model, reason: str, message: str) -> Condition:
    return actions.condition(model, conditions.PLACED, conditions.FALSE, reason, message)


def _with(model: Model, condition: Condition, placement: Placement | None) -> Model:
    """Return the Model as it will be once the verdict is written."""
    others = tuple(c for c in model.status.conditions if c.type != conditions.PLACED)
    status = msgspec.structs.replace(model.status, conditions=(*others, condition), placement=placement)
    return msgspec.structs.replace(model, status=status)


def _report(model: Model, condition: Condition, placement: Placement | None) -> WriteStatus | None:
    """Return the report of a verdict, unless the Model says as much already."""
    former = model.condition(conditions.PLACED)
    if former is not None and alike(former.message, condition.message):
        same = msgspec.structs.replace(condition, message=former.message)
        condition = same if conditions.same(former, same) else condition
    return actions.write_if_changed(
        model, PlacedStatus(condition=condition, placement=placement), gates=SERVICES["placer"].gates
    )


def _again(model: Model, world: PlacementState) -> float | None:
    """Return when time alone changes the verdict."""
    since = _silent_since(model, world)
    if since is not None and not model.spec.devices:
        return since + GONE_SECONDS
    if not model.is_true(conditions.ACCEPTED):
        return actions.first_write_due(
            model, conditions.PLACED, world.state.first_seen.get(model.uid), world.now
        )
    return None


__all__ = ["BINDING", "GONE_SECONDS", "decide"]
