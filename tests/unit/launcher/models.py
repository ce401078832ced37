"""The vocabulary of the launcher's tests: a Model in each phase of its life."""

from typing import Any

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.effects import Start
from flexinfer.launcher.manifests import LaunchSettings, endpoint, engine_pod, template
from flexinfer.launcher.memory import EngineProbed, Memory, remember
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_condition, a_model, a_state

SETTINGS = LaunchSettings(image="flexinfer", loading_seconds=60.0, drain_seconds=30.0)
OPEN = ("Accepted", "Placed", "Cached", "Wanted", "Granted")
IDLE = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE), "Granted")
ADDRESS = "127.0.0.9:8080"


def a_start(*gates: Any, ready: tuple[str, str] | None = None, **changes: Any) -> Model:
    """Return a Model with every gate open unless `gates` are given; `ready` is (status, reason)."""
    generation = changes.get("generation", 1)
    ready_generation = changes.pop("ready_generation", generation)
    given_conditions = [*(gates or OPEN)]
    if ready is not None:
        given_conditions.append(a_condition(conditions.READY, ready[0], ready[1], ready_generation))
    defaults = {"backend_status": BackendStatus(address=ADDRESS) if ready == ("True", Reason.READY) else None}
    bare = a_model(conditions=[_at(c, generation) for c in given_conditions], **(defaults | changes))
    if ready is None:
        return bare
    started = {"endpoint": endpoint(bare, SETTINGS), "finalizers": (RUNNING_FINALIZER,)}
    return a_model(conditions=bare.status.conditions, **(defaults | started | changes))


def _at(gate: Any, generation: int) -> Any:
    if isinstance(gate, str):
        return a_condition(gate, generation=generation)
    if not isinstance(gate, tuple):
        return gate
    kind, status, reason = gate
    return a_condition(kind, status, reason, generation)


def its_pod(model: Model, **changes: Any) -> PodFacts:
    """Return the running Pod of a Model, of the template that it asks for."""
    rendered = template(model, SETTINGS)
    facts: dict[str, Any] = {
        "name": model.pod_name,
        "uid": "pod-1",
        "version": 5,
        "model_uid": model.uid,
        "template": rendered.digest if rendered is not None else "",
        "generation": model.metadata.generation,
        "node": "a",
        "ip": "127.0.0.9",
        "phase": "Running",
        "running": True,
    }
    return PodFacts(**(facts | changes))


def holding(model: Model, *pods: PodFacts) -> events.WorkloadObserved:
    """Return the workload of a Model: its Pods."""
    return events.WorkloadObserved(namespace=model.metadata.namespace, name=model.metadata.name, pods=pods)


def a_probe(model: Model, pod: PodFacts, *, healthy: bool = True, **changes: Any) -> EngineProbed:
    """Return what the prober learned of a Pod."""
    return EngineProbed(key=model.key, uid=model.uid, pod_uid=pod.uid, healthy=healthy, pod=pod, **changes)


def starting(model: Model, turn: int = 0, settings: LaunchSettings = SETTINGS) -> Start:
    """Return the start of a Model."""
    rendered = template(model, settings)
    assert rendered is not None
    pod = engine_pod(model, turn, rendered)
    return Start(model=model, turn=turn, pod=pod, template=rendered.digest)


def observed(*parts: Any, at: float = NOW) -> tuple[ObservedState, Memory]:
    """Return state and memory after the parts were observed, in their order."""
    memory = Memory()
    for part in parts:
        memory = remember(memory, part, at) if isinstance(part, EngineProbed) else memory
    return a_state(*(part for part in parts if not isinstance(part, EngineProbed))), memory
