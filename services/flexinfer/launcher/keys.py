"""Which Models an event concerns, as the launcher sees it. Pure."""

from collections.abc import Iterable, Iterator

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import NodeFacts
from flexinfer.launcher.memory import Fact
from flexinfer.state.observed import ObservedState
from flexinfer.state.touched import touches_group_members, touches_its_model


def touched(before: ObservedState, after: ObservedState, event: AnyEvent) -> Iterator[str]:
    """Yield the Models whose engine an event may concern."""
    yield from touches_its_model(before, after, event)
    yield from touches_group_members(before, after, event)
    if before.proxies is not after.proxies:
        yield from after.with_reason(conditions.READY, Reason.DRAINING)
    match event:
        case events.NodeObserved(name=node) | events.NodeDeleted(name=node):
            if _ready(before.nodes.get(node)) != _ready(after.nodes.get(node)):
                # Also those that are placed there: a probe may have read a Pod before the watcher published it.
                yield from after.on_node(node)
                yield from _with_pods_on(after, node)
        case _:
            return


def touched_by(_state: ObservedState, fact: Fact) -> Iterable[str]:
    """Return the Model that a fact is about."""
    return (fact.key,)


def _ready(node: NodeFacts | None) -> str:
    return node.ready if node is not None else ""


def _with_pods_on(state: ObservedState, node: str) -> Iterator[str]:
    """Yield the Models with a Pod on a node: all are looked through, since a node rarely changes its readiness."""
    for key, workload in state.workloads.items():
        if any(pod.node == node for pod in workload.pods):
            yield key
