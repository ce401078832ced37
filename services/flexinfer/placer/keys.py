"""Which Models an event concerns, as the placer sees it. Pure.

A Model that is refused is decided on again when a node or what is taken there changes, one that should start when
its own node does, members of a group with each other. A Model that was not decided on yet needs no touch: its own
events brought it into the queue. Whatever else a Model has, it keeps.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import Holder
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import NodeFacts
from flexinfer.placer.footprint import measured
from flexinfer.placer.requirements import requirements_of
from flexinfer.placer.start_order import start_order
from flexinfer.state.index import OCCUPYING, STARTING, is_starting, scheduled_to
from flexinfer.state.observed import STALE_SECONDS, ObservedState, Sample
from flexinfer.state.touched import touches_its_model


class _Share(msgspec.Struct, frozen=True):
    """What a Model takes where, as others count it."""

    uid: str
    node: str
    start: tuple[bool, float, str] | None
    """Its place among those that start on the node; None if it does not start."""
    asks: object
    groups: frozenset[tuple[str, str]]
    placement: object
    pods: tuple[tuple[str, str, bool], ...]
    """Its Pods: node, uid, and whether it has ended."""
    ready: bool
    stage: str
    """In a group, the reason of Ready: members look at telemetry that is newer than that."""

    @property
    def takes(self) -> bool:
        """Whether the Model alters what is free for others; one that is scaled to zero takes nothing."""
        return self.start is not None or bool(self.groups) or any(node for node, _, _ in self.pods)


def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the Models whose placement an event may alter."""
    for key in touches_its_model(before, after, event):
        yield key
        yield from _altered_by(key, before, after)
    match event:
        case events.NodeObserved(name=name) | events.NodeDeleted(name=name):
            yield from _of_node(name, before, after)
        case events.GpusObserved(node=name):
            yield from _of_sample(name, before, after)
        case events.GroupObserved(group=group):
            yield from _of_group(group.key, before, after)
        case events.GroupDeleted(namespace=namespace, name=name):
            yield from _of_group(f"{namespace}/{name}", before, after)
        case _:
            return


def _altered_by(key: str, before: ObservedState, after: ObservedState) -> Iterator[str]:
    """Yield the Models that count what a Model takes, if that has changed."""
    old, new = _share(key, before), _share(key, after)
    if old == new:
        return
    shares = [share for share in (old, new) if share is not None]
    same = _same_but_for_its_start(old, new)
    if any(share.takes for share in shares) and not (same and _starts(old) == _starts(new)):
        yield from _refused(after)
    if not same:
        yield from _of_groups(shares, before, after)
        yield from _where_its_pods_are(shares, after)
    yield from _starting_later(shares, after)


def _same_but_for_its_start(old: _Share | None, new: _Share | None) -> bool:
    """Return whether a Model takes the same as before, except that it is to run, or no longer, or earlier than others."""
    return old is not None and new is not None and msgspec.structs.replace(old, start=new.start) == new


def _starts(share: _Share | None) -> bool:
    return share is not None and share.start is not None


def _where_its_pods_are(shares: Iterable[_Share], state: ObservedState) -> Iterator[str]:
    """Yield the Models that start on the nodes where a Model's Pods have devices, or had."""
    for node in {node for share in shares for node, _, _ in share.pods if node}:
        yield from _with_devices(state, state.under(STARTING, node))


def _of_groups(shares: Sequence[_Share], before: ObservedState, after: ObservedState) -> Iterator[str]:
    """Yield the members of a Model's groups, and the Models that start where the groups reserve devices."""
    members = {
        key
        for share in shares
        for namespace, group in share.groups
        for state in (before, after)
        for key in state.members(namespace, group)
    }
    yield from (key for key in sorted(members) if key in after.models)
    others = [_share(key, state) for key in sorted(members) for state in (before, after)]
    group_shares = [share for share in (*shares, *others) if share is not None and share.groups]
    for node in {
        node for share in group_shares for node in (share.node, *(pod for pod, _, _ in share.pods)) if node
    }:
        yield from after.under(STARTING, node)


def _starting_later(shares: Sequence[_Share], state: ObservedState) -> Iterator[str]:
    """Yield the Models that start after one that starts, or did, on its node: it is served before them."""
    for share in shares:
        for key in state.under(STARTING, share.node) if share.start is not None else ():
            model = state.effective(key)
            if model is not None and share.start is not None and start_order(state, model) > share.start:
                yield key


def _of_node(name: str, before: ObservedState, after: ObservedState) -> Iterator[str]:
    old, new = before.nodes.get(name), after.nodes.get(name)
    if _facts(old) == _facts(new):
        return
    yield from _refused(after)
    yield from after.under(STARTING, name)
    yield from _members_elsewhere(name, after)
    if old is None or new is None or (old.ready, old.taints) != (new.ready, new.taints):
        yield from after.on_node(name)


def _facts(node: NodeFacts | None) -> NodeFacts | None:
    """Return a node without what no decision looks at."""
    return msgspec.structs.replace(node, version=0) if node is not None else None


def _of_sample(node: str, before: ObservedState, after: ObservedState) -> Iterator[str]:
    """Yield the Models with devices that a sample concerns; those that start also wait for a newer one."""
    yield from _with_devices(after, after.under(STARTING, node))
    yield from _to_measure(node, after)
    old, new = before.gpus.get(node), after.gpus.get(node)
    if _names(old) != _names(new):
        yield from _with_devices(after, after.on_node(node))
    if _is_news(old, new) or _shows_loaded(node, after, old, new):
        yield from _with_devices(after, _refused(after))
        yield from _members_elsewhere(node, after)


def _members_elsewhere(node: str, state: ObservedState) -> Iterator[str]:
    """Yield the Models that start on another node while their group is on this one: they may move to it."""
    members = {key for group in _groups_on(node, state) for key in state.members(*group)}
    for key in sorted(members):
        model = state.effective(key)
        if model is not None and scheduled_to(model) not in ("", node):
            yield from [key] if is_starting(model, state.workloads.get(key)) else []


def _groups_on(node: str, state: ObservedState) -> Iterator[tuple[str, str]]:
    """Yield the groups with a Model that is scheduled to a node, or that holds devices there."""
    for key in state.grouped_on(node):
        model = state.effective(key)
        yield from _groups(model) if model is not None else ()
    for group in {key for keys in state.holding.values() for key in keys}:
        shared = state.groups[group]
        if any(holder.node == node for holder in shared.status.holders):
            yield shared.metadata.namespace, shared.name


def _names(sample: Sample | None) -> frozenset[tuple[str, str, str]]:
    """Return what running Models look at: how devices are called, which a device plugin may pick, and which are out of use."""
    devices = sample.observed.devices if sample is not None else ()
    return frozenset((device.uuid, device.pci, device.out_of_use) for device in devices)


def _is_news(old: Sample | None, new: Sample | None) -> bool:
    if old is None or new is None:
        return old is not new
    return _looked_at(old) != _looked_at(new) or new.at - old.at >= STALE_SECONDS


def _looked_at(sample: Sample) -> tuple[object, ...]:
    """Return a sample without what no decision looks at: a card is hardly ever as warm as a second ago."""
    plain = (
        msgspec.structs.replace(device, utilisation=0, power_watts=0, temperature=0)
        for device in sample.observed.devices
    )
    return (sample.observed.message, *plain)


def _shows_loaded(node: str, state: ObservedState, old: Sample | None, new: Sample | None) -> bool:
    """Return whether a sample is the first since an engine there has loaded: from then on it counts as it is measured."""
    models = [model for key in state.under(OCCUPYING, node) if (model := state.effective(key)) is not None]
    times = [at for model in models if (at := state.changed(model, conditions.READY)) is not None]
    return old is not None and new is not None and any(old.at <= at < new.at for at in times)


def _with_devices(state: ObservedState, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        model = state.effective(key)
        if model is not None and model.spec.devices:
            yield key


def _to_measure(node: str, state: ObservedState) -> Iterator[str]:
    """Yield the Models whose engines on a node are seen to hold another amount of memory than is recorded."""
    sample = state.gpus.get(node)
    for key in state.under(OCCUPYING, node) if sample is not None else ():
        model = state.effective(key)
        pods = [pod for pod in state.workloads[key].pods if not pod.ended]
        if model is not None and sample is not None and measured(model, pods, sample.observed.devices):
            yield key


def _of_group(key: str, before: ObservedState, after: ObservedState) -> Iterator[str]:
    """Yield whom the holders and the reserve of a group concern: its members, and those that may get what holders give back."""
    groups = [group for state in (before, after) if (group := state.groups.get(key)) is not None]
    if len({(group.status.holders, group.spec.reserve_mb) for group in groups}) == 1 and len(groups) > 1:
        return
    holders = [holder for group in groups for holder in group.status.holders]
    for group in groups:
        yield from after.members(group.metadata.namespace, group.name)
    namespace = key.partition("/")[0]
    yield from (name for h in holders if (name := f"{namespace}/{h.model}") in after.models)
    yield from _refused(after)
    for node in {node for h in holders for node in _nodes_of(h, namespace, after)}:
        yield from after.under(STARTING, node)


def _nodes_of(holder: Holder, namespace: str, state: ObservedState) -> Iterator[str]:
    """Yield where a holder's devices are: where it was granted them, and where its Model is scheduled to."""
    model = state.effective(f"{namespace}/{holder.model}")
    yield holder.node
    yield scheduled_to(model) if model is not None else ""


def _refused(state: ObservedState) -> Collection[str]:
    return state.with_reason(conditions.PLACED, Reason.NO_NODE_FITS)


def _share(key: str, state: ObservedState) -> _Share | None:
    """Return what a Model takes; None if there is none of this key."""
    model = state.effective(key)
    if model is None:
        return None
    workload = state.workloads.get(key)
    pods = workload.pods if workload is not None else ()
    placement, ready = model.status.placement, model.condition(conditions.READY)
    return _Share(
        uid=model.uid,
        node=scheduled_to(model),
        start=start_order(state, model) if scheduled_to(model) and is_starting(model, workload) else None,
        asks=requirements_of(model),
        groups=_groups(model),
        placement=_taken(placement) if placement is not None else None,
        pods=tuple((pod.node, pod.uid, pod.ended) for pod in pods),
        ready=ready is not None and ready.true,
        stage=ready.reason if ready is not None and model.spec.group else "",
    )


def _taken(placement: Placement) -> tuple[object, ...]:
    """Return of a placement what others count: where its devices are, and whether it has them alone."""
    return placement.node, placement.devices, placement.vendor, placement.binding, placement.shared


def _groups(model: Model) -> frozenset[tuple[str, str]]:
    shared, namespace = model.status.shared_group, model.metadata.namespace
    names = {model.spec.group, shared.group if shared is not None else ""} - {""}
    return frozenset((namespace, name) for name in names)
