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
