"""Where does each Model live? Pure: verdicts on Placed, with numbers where the answer is no.

A refusal is decided anew on every change. A home is kept: it is looked at again only while the Model is wanted and has no Pod, or when its
spec changed so that it could not live there. Nothing is taken from a Model with devices on a node's silence alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import msgspec

from flexinfer.contracts import actions, conditions, keys
from flexinfer.contracts.actions import Recheck, Report
from flexinfer.contracts.conditions import Condition
from flexinfer.contracts.fleet import Fleet
from flexinfer.contracts.model import Model, Placement
from flexinfer.contracts.nodes import NodeFacts
from flexinfer.placer.fit import Fit, No, fits, obstacle
from flexinfer.placer.wording import alike, housed, refusal
from flexinfer.placer.world import World, home_of, wanted

GONE_SECONDS = 60.0
"""How long a node may be silent before a Model without devices leaves it."""
BINDING = "DevicePlugin"
_PASSES = 8

Verdict: TypeAlias = tuple[Condition, Placement | None]


def decide(fleet: Fleet, now: float) -> Iterator[Report | Recheck]:
    """Yield every verdict that differs from what the Model says, all of them as they stand together."""
    world, verdicts = _together(fleet, now)
    for key in sorted(fleet.models):
        model, settled = fleet.models[key], world.models[key]
        verdict = verdicts[key] or (_standing_verdict(settled) if settled is not model else None)
        told = _report(model, *verdict) if verdict is not None else None
        if told is not None:
            yield told
        again = _again(model, world)
        if again is not None and again > now:
            yield Recheck(again)


def _together(fleet: Fleet, now: float) -> tuple[World, Mapping[str, Verdict | None]]:
    """Return the world in which each placement takes the others into account, and the verdicts there."""
    world, verdicts = World(fleet, fleet.models, now), dict[str, Verdict | None]()
    for _ in range(_PASSES):
        moved = False
        for key in sorted(world.models):
            model, verdict = world.models[key], _judge(world.models[key], world)
            verdicts[key] = verdict
            after = _with(model, *verdict) if verdict is not None else model
            if home_of(after) != home_of(model):
                world, moved = World(fleet, {**world.models, key: after}, now), True
        if not moved:
            break
    return world, verdicts


def _standing_verdict(model: Model) -> Verdict | None:
    placed = model.condition(keys.PLACED)
    return (placed, model.status.placement) if placed is not None else None


def _judge(model: Model, world: World) -> Verdict | None:
    """Return the verdict on a Model; None when it is not the time for one."""
    placed = model.condition(keys.PLACED)
    if model.deleting:
        return None
    if home_of(model):
        return _housed(model, world)
    if not model.holds(keys.ACCEPTED):
        return _unaccepted(model, world)
    if placed is not None and placed.reason == keys.R_NODE_GONE and world.pods(model):
        return _no(model, keys.R_NODE_GONE, placed.message), model.status.placement
    return _choose(model, world)


def _unaccepted(model: Model, world: World) -> Verdict | None:
    """Say that Accepted is missing, unless a former verdict stands: gates do not close."""
    placed = model.condition(keys.PLACED)
    if placed is not None and (placed.true or model.verdict(keys.ACCEPTED) == conditions.UNKNOWN):
        return None
    if (
        actions.first_verdict_waits(model, keys.PLACED, world.fleet.seen.get(model.uid), world.now)
        is not None
    ):
        return None
    return _no(model, keys.R_NOT_ACCEPTED, "a home needs Accepted"), _kept(model, world)


def _housed(model: Model, world: World) -> Verdict | None:
    """Look at a Model's home again."""
    home, pods = home_of(model), world.pods(model)
    facts = world.fleet.nodes.get(home)
    fenced = facts is not None and any(t.key == keys.OUT_OF_SERVICE_TAINT for t in facts.taints)
    if facts is None or fenced:
        moves = not pods and model.holds(keys.ACCEPTED)
        return _choose(model, world) if moves else _gone(model, "is out of service" if fenced else "is gone")
    if facts.ready != conditions.TRUE and pods:
        return _silent(model, world)
    if model.verdict(keys.PLACED) != conditions.TRUE:
        return _anew(model, facts, world)
    if wanted(model) and not pods and model.holds(keys.ACCEPTED) and not _still_fits(model, world):
        return _choose(model, world)
    return _stays(model, world) if _silence_told(model) else None


def _anew(model: Model, facts: NodeFacts, world: World) -> Verdict | None:
    """Judge a newer spec: it stays where it could have been put, without another look at what is free."""
    if not model.holds(keys.ACCEPTED):
        return _stays(model, world) if _silence_told(model) else None
    lacks = obstacle(world.need(model), facts, world.devices(facts.name)) is not None
    return _choose(model, world) if lacks or _resized(model, world) else _stays(model, world)


def _still_fits(model: Model, world: World) -> bool:
    """Tell whether a Model that is to start can do so at home."""
    group = world.groups.get((model.metadata.namespace, model.spec.group))
    if group is not None and model.spec.group and group.node != home_of(model):
        return False
    return isinstance(fits(world.need(model), world.stock(model, home_of(model), settled=True)), Fit)


def _resized(model: Model, world: World) -> bool:
    """Tell whether a newer spec asks for another number or make of devices than the home has."""
    need, placement = world.need(model), model.status.placement or Placement()
    number = len(placement.devices) or need.devices
    return number != need.devices or (placement.vendor not in need.vendors)


def _silent(model: Model, world: World) -> Verdict:
    """Judge a Model whose Pods are on a node that is not ready."""
    home, since = home_of(model), _silent_since(model, world)
    if not model.spec.devices and since is not None and world.now - since >= GONE_SECONDS:
        return _gone(model, f"has not been ready for {GONE_SECONDS:.0f} s")
    if model.spec.devices:
        exits = (
            f"{home} is not ready and its devices may be in use: the Model keeps its home until the node returns, "
            f"is deleted (kubectl delete node {home}) or is tainted {keys.OUT_OF_SERVICE_TAINT}"
        )
    else:
        exits = f"{home} is not ready; after {GONE_SECONDS:.0f} s without a change the Model moves"
    verdict = actions.verdict(model, keys.PLACED, conditions.TRUE, keys.R_NODE_NOT_READY, exits)
    return _standing(model, verdict), model.status.placement


def _silence_told(model: Model) -> bool:
    placed = model.condition(keys.PLACED)
    return placed is not None and placed.true and placed.reason == keys.R_NODE_NOT_READY


def _silent_since(model: Model, world: World) -> float | None:
    return world.fleet.since.get((model.key, keys.PLACED)) if _silence_told(model) else None


def _standing(model: Model, verdict: Condition) -> Condition:
    """Return a verdict that is True of the generation for which it was given, while the newer spec is not accepted."""
    former = model.condition(keys.PLACED)
    if former is None or model.holds(keys.ACCEPTED):
        return verdict
    return msgspec.structs.replace(verdict, observed_generation=former.observed_generation)


def _gone(model: Model, how: str) -> Verdict:
    message = f"{home_of(model)} {how}; the Model gets another home when its Pod there is deleted"
    return _no(model, keys.R_NODE_GONE, message), model.status.placement


def _stays(model: Model, world: World) -> Verdict:
    """Say again that a Model lives where it lives; a newer spec may have changed its size."""
    need, placement = world.need(model), model.status.placement or Placement()
    kept = msgspec.structs.replace(placement, footprint=need.vram_mb * need.devices)
    return _standing(model, _yes(model, kept)), kept


def _choose(model: Model, world: World) -> Verdict:
    """Take the node that the Model fills best; with devices the tightest, without the emptiest."""
    need, present = world.need(model), model.status.placement or Placement()
    nodes, scope = _candidates(model, world)
    tried = {name: fits(need, world.stock(model, name, settled=False)) for name in nodes}
    fitting = [t for t in tried.values() if isinstance(t, Fit)]
    if not fitting:
        lacks = {name: t for name, t in tried.items() if isinstance(t, No)}
        return _no(model, keys.R_NO_NODE_FITS, refusal(lacks, scope)), _kept(model, world)
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


def _candidates(model: Model, world: World) -> tuple[Sequence[str], str]:
    """Return the nodes to try, and what narrows the choice: members of a shared group share one home."""
    everywhere = sorted(world.fleet.nodes)
    group = world.groups.get((model.metadata.namespace, model.spec.group)) if model.spec.group else None
    if group is None or group.node not in world.fleet.nodes:
        return everywhere, ""
    scope = f" (members of the shared group {group.group} live on {group.node})"
    if group.live:
        return [group.node], scope
    at_home = fits(world.need(model), world.stock(model, group.node, settled=False))
    if isinstance(at_home, Fit):
        return [group.node], scope
    others = [name for name in everywhere if world.suits_all(model, name)]
    return (others, "") if others else ([group.node], scope)


def _kept(model: Model, world: World) -> Placement | None:
    """Return where a Model runs although it has no home any more."""
    return model.status.placement if world.pods(model) else None


def _yes(model: Model, placement: Placement) -> Condition:
    return actions.verdict(model, keys.PLACED, conditions.TRUE, keys.R_PLACED, housed(placement))


def _no(model: Model, reason: str, message: str) -> Condition:
    return actions.verdict(model, keys.PLACED, conditions.FALSE, reason, message)


def _with(model: Model, condition: Condition, placement: Placement | None) -> Model:
    """Return the Model as it will be once the verdict is written."""
    others = tuple(c for c in model.status.conditions if c.type != keys.PLACED)
    status = msgspec.structs.replace(model.status, conditions=(*others, condition), placement=placement)
    return msgspec.structs.replace(model, status=status)


def _report(model: Model, condition: Condition, placement: Placement | None) -> Report | None:
    """Return the report of a verdict, unless the Model says as much already."""
    former = model.condition(keys.PLACED)
    if former is not None and alike(former.message, condition.message):
        same = msgspec.structs.replace(condition, message=former.message)
        condition = same if conditions.same(former, same) else condition
    return actions.report(model, condition, {"placement": placement}, gates=(keys.ACCEPTED,))


def _again(model: Model, world: World) -> float | None:
    """Return when time alone changes the verdict."""
    since = _silent_since(model, world)
    if since is not None and not model.spec.devices:
        return since + GONE_SECONDS
    if not model.holds(keys.ACCEPTED):
        return actions.first_verdict_waits(model, keys.PLACED, world.fleet.seen.get(model.uid), world.now)
    return None


__all__ = ["BINDING", "GONE_SECONDS", "decide"]
