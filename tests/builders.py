"""The vocabulary of the tests: Models, nodes and fleets in a word."""

from collections.abc import Iterable
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Gpu, Metadata, Model, ModelSpec, ModelStatus, Placement, Serverless
from flexinfer.events.events import AnyEvent, ModelObserved, NodeObserved, WorkloadObserved
from flexinfer.events.nodes import NodeFacts
from flexinfer.events.workload import PodFacts
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

NOW = 1000.0
"""A moment of the monotonic clock."""


def a_condition(kind: str, status: str = "True", reason: str = "", generation: int = 1) -> Condition:
    """Return a condition; the reason is the type unless given."""
    return Condition(type=kind, status=status, reason=reason or kind, observed_generation=generation)


def a_model(name: str = "llama", **changes: Any) -> Model:
    """Return a Model; `conditions` are (type, status, reason) or types that are True."""
    said = tuple(
        a_condition(c) if isinstance(c, str) else a_condition(*c) if isinstance(c, tuple) else c
        for c in changes.pop("conditions", ())
    )
    spec = ModelSpec(
        backend=changes.pop("backend", "llamacpp"),
        source=changes.pop("source", "pvc://models/smollm2.gguf"),
        gpu=changes.pop("gpu", None),
        serverless=Serverless(**changes.pop("serverless", {})),
        config=changes.pop("config", {}),
        node_selector=changes.pop("node_selector", {}),
    )
    status = ModelStatus(
        conditions=said,
        placement=changes.pop("placement", Placement(node="a")),
        shared_group=changes.pop("shared_group", None),
        backend=changes.pop("backend_status", None),
        endpoint=changes.pop("endpoint", ""),
        cache=changes.pop("cache_status", None),
    )
    return Model(
        metadata=Metadata(
            name=name,
            namespace=changes.pop("namespace", "default"),
            uid=changes.pop("uid", f"uid-{name}"),
            resource_version=str(changes.pop("version", 1)),
            generation=changes.pop("generation", 1),
            **changes,
        ),
        spec=spec,
        status=status,
    )


def a_pod(model: Model, **changes: Any) -> PodFacts:
    """Return a running Pod of a Model."""
    facts: dict[str, Any] = {
        "name": f"{model.metadata.name}-0",
        "uid": f"pod-{model.metadata.name}",
        "model_uid": model.uid,
        "node": "a",
        "ip": "127.0.0.9",
        "phase": "Running",
        "running": True,
    }
    return PodFacts(**(facts | changes))


def a_node(name: str = "a", **changes: Any) -> NodeFacts:
    """Return a ready node with 8 processors and 16 GiB."""
    facts: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "ready": "True",
        "allocatable": {"cpu": 8_000, "memory": 16 * 2**30 * 1000, "pods": 110_000},
    }
    return NodeFacts(**(facts | changes))


def a_fleet(
    *parts: Model | NodeFacts | WorkloadObserved | AnyEvent, connected: float | None = 0.0
) -> ObservedState:
    """Return a fleet that has seen the parts, in their order, at NOW."""
    state = apply_events(ObservedState(), [Observation(_event(part), NOW) for part in parts])
    return msgspec.structs.replace(state, connected_since=connected)


def _event(part: Any) -> AnyEvent:
    if isinstance(part, Model):
        return ModelObserved(model=part)
    if isinstance(part, NodeFacts):
        return NodeObserved(name=part.name, node=part)
    event: AnyEvent = part
    return event


def running(model: Model, *pods: PodFacts, **changes: Any) -> WorkloadObserved:
    """Return the workload of a Model: the Pods given."""
    return WorkloadObserved(
        namespace=model.metadata.namespace, name=model.metadata.name, pods=pods, **changes
    )


def all_true(*but: str | tuple[str, str, str]) -> Iterable[Any]:
    """Return every condition as True, except those given as (type, status, reason) or left out by name."""
    left_out = {b for b in but if isinstance(b, str)}
    given = {b[0]: b for b in but if isinstance(b, tuple)}
    return tuple(given.get(kind, kind) for kind in conditions.CONDITIONS if kind not in left_out)


SHARED = Gpu(vendor="nvidia", shared="card", vram_estimate_mb=4000)
TRUE, FALSE, UNKNOWN = conditions.TRUE, conditions.FALSE, conditions.UNKNOWN
