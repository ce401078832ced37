"""Which Models an event is about: where a component begins to tell which decisions it touches. Pure."""

from collections.abc import Iterator

from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.state.observed import ObservedState


def touches_its_model(_before: ObservedState, _after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the key of the Model that an event is about, if it is about one."""
    match event:
        case events.ModelObserved(model=model) | events.ModelRestored(model=model):
            yield model.key
        case (
            events.ModelDeleted(namespace=namespace, name=name)
            | events.WorkloadObserved(namespace=namespace, name=name)
            | events.WorkloadDeleted(namespace=namespace, name=name)
            | events.ActivityObserved(namespace=namespace, name=name)
            | events.WakeRequested(namespace=namespace, name=name)
        ):
            yield f"{namespace}/{name}"
        case _:
            return


def touches_group_members(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the keys of the Models in a group, and of those that hold its devices, if an event is about its SharedGroup."""
    match event:
        case events.GroupObserved(group=shared_group):
            key = shared_group.key
        case events.GroupDeleted(namespace=namespace, name=name):
            key = f"{namespace}/{name}"
        case _:
            return
    for state in (before, after):
        group = state.groups.get(key)
        if group is not None:
            yield from after.members(group.metadata.namespace, group.name)
            yield from (
                f"{group.metadata.namespace}/{holder.model}"
                for holder in group.status.holders
                if holder.model
            )
