"""Builders of Models, Pods, nodes and observed states for tests."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.lease import GPULease, GPULeaseSpec, GPULeaseStatus
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Gpu, LiteLLM, Model, ModelSpec, ModelStatus, Serverless
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.api.podspec import SecretReference
from flexinfer.api.sharedgroup import (
    GRANTED,
    INITIALIZED,
    HeldDevice,
    Holder,
    SharedGroup,
    SharedGroupSpec,
    SharedGroupStatus,
    object_name,
)
from flexinfer.events.events import (
    AnyEvent,
    GroupObserved,
    LeaseObserved,
    ModelObserved,
    NodeObserved,
    WorkloadObserved,
)
from flexinfer.events.nodes import NodeFacts
from flexinfer.events.workload import PodFacts
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState

NOW = 1000.0
"""A time of the monotonic clock, in seconds."""


def a_condition(kind: str, status: str = "True", reason: str = "", generation: int = 1) -> Condition:
    """Return a condition; the reason defaults to the type."""
    return Condition(type=kind, status=status, reason=reason or kind, observed_generation=generation)


def a_model(name: str = "llama", **changes: Any) -> Model:
    """Return a Model; `conditions` are Conditions, (type, status, reason), or names of types that are True."""
    status_conditions = tuple(
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
        service_labels=changes.pop("service_labels", ()),
        litellm=msgspec.convert(changes.pop("litellm", None), LiteLLM | None),
        image=changes.pop("image", ""),
        env=changes.pop("env", ()),
        image_pull_secrets=tuple(SecretReference(name=n) for n in changes.pop("pull_secrets", ())),
        runtime_class_name=changes.pop("runtime_class", ""),
        resources=changes.pop("resources", None),
    )
    status = ModelStatus(
        last_active_time=changes.pop("last_active_time", None),
        conditions=status_conditions,
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
    """Return a ready node with 8 CPUs and 16 GiB of memory."""
    facts: dict[str, Any] = {
        "name": name,
        "uid": f"uid-{name}",
        "ready": "True",
        "allocatable": {"cpu": 8_000, "memory": 16 * 2**30 * 1000, "pods": 110_000},
    }
    return NodeFacts(**(facts | changes))


def devices_of(totals: Mapping[str, int], memory_mb: int) -> tuple[PlacedDevice, ...]:
    """Return devices of so much memory in all, by uuid, on each of which a Model takes `memory_mb`; all in MiB."""
    return tuple(
        PlacedDevice(uuid=uuid, memory_mb=memory_mb, total_mb=total) for uuid, total in totals.items()
    )


def a_holder(name: str = "llama", **changes: Any) -> Holder:
    """Return a holder of the node `a`, with turn 1; `devices` are uuids or HeldDevices."""
    devices = changes.pop("devices", ())
    held = tuple(HeldDevice(uuid=device) if isinstance(device, str) else device for device in devices)
    facts: dict[str, Any] = {"uid": f"uid-{name}", "turn": 1, "step": GRANTED, "node": "a"}
    return Holder(model=name, devices=held, **(facts | changes))


def a_group(*holders: Holder, name: str = "card", **changes: Any) -> SharedGroup:
    """Return the initialised SharedGroup of a group, with these holders."""
    conditions_ = (a_condition("Accepted"), a_condition(INITIALIZED))
    initialized = changes.pop("initialized", True)
    status = SharedGroupStatus(
        turn=changes.pop("turn", max((holder.turn for holder in holders), default=0)),
        holders=holders,
        conditions=changes.pop("conditions", conditions_ if initialized else ()),
    )
    metadata: dict[str, Any] = {
        "name": object_name(name),
        "namespace": "default",
        "uid": f"uid-group-{name}",
        "resource_version": str(changes.pop("version", 1)),
        "generation": 1,
        "finalizers": ("flexinfer.ai/held",),
    }
    return SharedGroup(
        metadata=Metadata(**(metadata | changes)), spec=SharedGroupSpec(group=name), status=status
    )


def a_lease(name: str = "game", *, told: str = "", **changes: Any) -> GPULease:
    """Return a lease of the group `card`; `told` is the reason of its condition, `spec` and `status` are merged in."""
    spec = GPULeaseSpec(**({"group": "card"} | changes.pop("spec", {})))
    granted = a_condition("Granted", "True" if told == LeaseReason.GRANTED else "False", told)
    facts: dict[str, Any] = {"conditions": (granted,)} if told else {}
    metadata: dict[str, Any] = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-lease-{name}",
        "resource_version": str(changes.pop("version", 1)),
        "generation": 1,
    }
    status = GPULeaseStatus(**(facts | changes.pop("status", {})))
    return GPULease(metadata=Metadata(**(metadata | changes)), spec=spec, status=status)


def a_state(
    *parts: Model | NodeFacts | SharedGroup | GPULease | AnyEvent, connected: float | None = 0.0
) -> ObservedState:
    """Return the observed state after the parts were observed at NOW, in their order."""
    state = apply_events(ObservedState(), [Observation(_event(part), NOW) for part in parts])
    return msgspec.structs.replace(state, connected_since=connected)


def _event(part: Any) -> AnyEvent:
    if isinstance(part, Model):
        return ModelObserved(model=part)
    if isinstance(part, NodeFacts):
        return NodeObserved(name=part.name, node=part)
    if isinstance(part, SharedGroup):
        return GroupObserved(group=part)
    if isinstance(part, GPULease):
        return LeaseObserved(lease=part)
    event: AnyEvent = part
    return event


def running(model: Model, *pods: PodFacts, **changes: Any) -> WorkloadObserved:
    """Return the observed workload of a Model with these Pods."""
    return WorkloadObserved(
        namespace=model.metadata.namespace, name=model.metadata.name, pods=pods, **changes
    )


def all_true(*but: str | tuple[str, str, str]) -> Iterable[Any]:
    """Return all condition types as True, except those named (left out) or given as (type, status, reason)."""
    left_out = {b for b in but if isinstance(b, str)}
    replaced = {b[0]: b for b in but if isinstance(b, tuple)}
    return tuple(replaced.get(kind, kind) for kind in conditions.CONDITIONS if kind not in left_out)


SHARED = Gpu(vendor="nvidia", shared="card", vram_estimate_mb=4000)
TRUE, FALSE, UNKNOWN = conditions.TRUE, conditions.FALSE, conditions.UNKNOWN
