"""The vocabulary of the launcher's tests: a Model at each point of its life."""

from typing import Any

from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import LaunchSettings, endpoint, pod_name, template
from tests.builders import a_condition, a_model

TERMS = LaunchSettings(image="ours", loading_seconds=60.0, drain_seconds=30.0)
OPEN = ("Accepted", "Placed", "Cached", "Wanted", "Granted")
ASLEEP = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE), "Granted")
ADDRESS = "127.0.0.9:8080"


def a_start(*said: Any, ready: tuple[str, str] | None = None, **changes: Any) -> Model:
    """Return a Model with every gate open unless `said` says otherwise; `ready` is (status, reason)."""
    generation = changes.get("generation", 1)
    conditions = [*(said or OPEN)]
    told = changes.pop("ready_generation", generation)
    if ready is not None:
        conditions.append(a_condition(conditions.READY, ready[0], ready[1], told))
    given = {"backend_status": BackendStatus(address=ADDRESS) if ready == ("True", Reason.READY) else None}
    bare = a_model(conditions=[_at(c, generation) for c in conditions], **(given | changes))
    if ready is None:
        return bare
    return a_model(
        conditions=bare.status.conditions,
        **(given | {"endpoint": endpoint(bare, TERMS)} | changes),
    )


def _at(said: Any, generation: int) -> Any:
    if isinstance(said, str):
        return a_condition(said, generation=generation)
    if not isinstance(said, tuple):
        return said
    kind, status, reason = said
    return a_condition(kind, status, reason, generation)


def its_pod(model: Model, **changes: Any) -> PodFacts:
    """Return the running Pod of a Model, of the template that it asks for."""
    made = template(model, TERMS)
    facts: dict[str, Any] = {
        "name": pod_name(model),
        "uid": "pod-1",
        "version": 5,
        "model_uid": model.uid,
        "template": made.digest if made is not None else "",
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


def answers(model: Model, pod: PodFacts, *, healthy: bool = True, **changes: Any) -> events.EngineProbed:
    """Return the word of an engine."""
    return events.EngineProbed(key=model.key, pod_uid=pod.uid, healthy=healthy, pod=pod, **changes)
