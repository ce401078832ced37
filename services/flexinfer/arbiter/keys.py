"""What the arbiter decides on: a group, a Model in no group, or a SharedGroup that does not count. Pure.

A Model's own key is decided on too while it is in a group: its decision is the group's, and nothing is yielded for it.
"""

from collections.abc import Iterable, Iterator

from flexinfer.api.lease import GPULease
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import STOPPED, SharedGroup
from flexinfer.arbiter.effects import key_of
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.state.demand import any_heard_again
from flexinfer.state.index import UNGRANTED
from flexinfer.state.leases import WAITING_LEASES
from flexinfer.state.observed import ObservedState

_GROUP = "group/"


def group_in(key: str) -> tuple[str, str] | None:
    """Return namespace and exact name of the group that a key is about; None if it is about none."""
    if not key.startswith(_GROUP):
        return None
    namespace, _, name = key.removeprefix(_GROUP).partition("/")
    return (namespace, name) if name else None


def keys(state: ObservedState) -> Iterator[str]:
    """Yield every key there is."""
    every = set(state.models)
    for model in state.models.values():
        every.update(_groups_of(model))
    for group in state.groups.values():
        every.update(_of_object(group))
    every.update(_group_of(lease) for lease in state.leases.values())
    yield from every


def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the keys whose decision an event may alter."""
    match event:
        case events.ModelObserved(model=model) | events.ModelRestored(model=model):
            yield from _of_model(before, after, model.key)
        case (
            events.ModelDeleted(namespace=namespace, name=name)
            | events.WorkloadObserved(namespace=namespace, name=name)
            | events.WorkloadDeleted(namespace=namespace, name=name)
        ):
            yield from _of_model(before, after, f"{namespace}/{name}")
            yield from _on_nodes_of(before, after, f"{namespace}/{name}")
        case events.GroupObserved(group=group) | events.GroupRestored(group=group):
            yield from _of_group(before, after, group.key)
        case events.GroupDeleted(namespace=namespace, name=name):
            yield from _of_group(before, after, f"{namespace}/{name}")
        case events.ActivityObserved(namespace=namespace, name=name):
            yield from _if_shared(before, after, f"{namespace}/{name}")
        case events.GpusObserved(node=node):
            yield from _waiting_for(after, node)
            yield from _ungranted(after, node)
        case events.NodeObserved(name=node) | events.NodeDeleted(name=node):
            yield from _waiting_for(after, node)
            yield from _placed_on(after, node) if _offers(before, node) != _offers(after, node) else ()
            if (node in before.nodes) is not (node in after.nodes):
                yield from map(_group_of, after.leases.values())  # where a lease is, if no Model tells
        case _:
            yield from _of_lease(before, after, event)
    if before.proxies is not after.proxies and any_heard_again(before, after):
        yield from _ungranted(after)


def _of_model(before: ObservedState, after: ObservedState, key: str) -> Iterator[str]:
    """Yield a Model's own key, and those of the groups that it is or was in."""
    yield key
    for state in (before, after):
        for model in (state.models.get(key), state.assumed.get(key)):
            if model is not None:
                yield from _groups_of(model)
                yield from _of_held(state, model.uid)


def _on_nodes_of(before: ObservedState, after: ObservedState, key: str) -> Iterator[str]:
    """Yield the groups that wait for memory on the nodes of a Model's Pods: what these use is not the leaver's."""
    workloads = [state.workloads.get(key) for state in (before, after)]
    for node in sorted({pod.node for workload in workloads if workload is not None for pod in workload.pods}):
        yield from _waiting_for(after, node)


def _if_shared(before: ObservedState, after: ObservedState, key: str) -> Iterator[str]:
    """Yield what the traffic of a Model concerns, if it shares devices."""
    if any(model is not None and model.spec.group for model in (before.effective(key), after.effective(key))):
        yield from _of_model(before, after, key)


def _of_lease(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the keys of the groups that a lease names, and of those in which it is a holder, if an event is about one."""
    match event:
        case events.LeaseObserved(lease=lease) | events.LeaseRestored(lease=lease):
            key = lease.key
        case (
            events.LeaseDeleted(namespace=namespace, name=name)
            | events.LeaseTimed(namespace=namespace, name=name)
        ):
            key = f"{namespace}/{name}"
        case _:
            return
    for state in (before, after):
        current = state.leases.get(key)
        if current is not None:
            yield _group_of(current)
            yield from _of_held(state, current.uid)


def _group_of(lease: GPULease) -> str:
    return key_of(lease.metadata.namespace, lease.spec.group)


def _ungranted(state: ObservedState, node: str = "") -> Iterator[str]:
    """Yield the groups of the Models that wait for devices, of a node or of any: what is in use there, and by whom, may let them in.

    And those of the leases that wait: which node theirs is, the group tells.
    """
    for key in state.under(*WAITING_LEASES):
        yield _group_of(state.leases[key])
    for key in state.under(UNGRANTED, node):
        model = state.effective(key)
        yield from _groups_of(model) if model is not None else ()


def _of_held(state: ObservedState, uid: str) -> Iterator[str]:
    """Yield the keys of the SharedGroup in which a Model's uid is a holder."""
    for key in state.holding.get(uid, ()):
        yield from _of_object(state.groups[key])


def _groups_of(model: Model) -> Iterator[str]:
    membership = model.status.shared_group
    for name in (model.spec.group, membership.group if membership is not None else ""):
        if name:
            yield key_of(model.metadata.namespace, name)


def _of_group(before: ObservedState, after: ObservedState, key: str) -> Iterator[str]:
    """Yield the keys of an object, of the group whose name it takes, and of those that hold or held it."""
    namespace, _, name = key.partition("/")
    yield key_of(namespace, name)
    for state in (before, after):
        group = state.groups.get(key)
        if group is None:
            continue
        yield from _of_object(group)
        yield from _of_holders(state, group)
        for holder in group.status.holders:
            yield from _placed_on(after, holder.node)
        for holder in group.status.holders:
            yield from _of_held(before, holder.uid)
            yield from _of_held(after, holder.uid)


def _of_object(group: SharedGroup) -> Iterator[str]:
    namespace = group.metadata.namespace
    yield key_of(namespace, group.name)
    if not group.counts:
        yield f"ignored/{group.key}"
        yield key_of(namespace, group.metadata.name)


def _of_holders(state: ObservedState, group: SharedGroup) -> Iterable[str]:
    """Yield the keys of those that hold devices, or may hold them by their status, and of the groups that they have gone to."""
    namespace = group.metadata.namespace
    holder_keys = {f"{namespace}/{holder.model}" for holder in group.status.holders if holder.model}
    for key in holder_keys | set(state.members(namespace, group.name)):
        model = state.effective(key)
        if key in holder_keys or (model is not None and model.spec.group != group.name):
            yield key
            yield from _groups_of(model) if model is not None else ()


def _offers(state: ObservedState, node: str) -> tuple[object, object]:
    """Return what a node has for all that runs there, None if it is not known, and its last sample, which is forgotten with it."""
    facts = state.nodes.get(node)
    return facts.allocatable if facts is not None else None, state.gpus.get(node)


def _placed_on(state: ObservedState, node: str) -> Iterator[str]:
    """Yield the groups with Models on a node: one may wait for devices there that another has."""
    for key in state.grouped_on(node):
        model = state.effective(key)
        yield from _groups_of(model) if model is not None else ()


def _waiting_for(state: ObservedState, node: str) -> Iterator[str]:
    """Yield the groups that wait for the memory of a node."""
    for key in state.leaving:
        group = state.groups.get(key)
        if group is not None and any(h.node == node and h.step == STOPPED for h in group.status.holders):
            yield key_of(group.metadata.namespace, group.name)
