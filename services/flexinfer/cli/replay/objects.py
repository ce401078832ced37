"""The objects of a replay as the API server and NATS would deliver them: Models, their SharedGroup, the node and its card. Pure."""

from collections.abc import Iterable

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import GPU_RESOURCES, HELD_FINALIZER
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import BackendStatus, Gpu, Model, ModelSpec, ModelStatus, Serverless
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import SharedGroup, SharedGroupSpec, SharedGroupStatus, group_key
from flexinfer.arbiter.status import initialized
from flexinfer.cli.replay.trace import GROUP, Trace, TraceGroup, TraceModel
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts
from flexinfer.events.workload import PodFacts

NAMESPACE, NODE, UUID, VENDOR, PROXY = "default", "node", "GPU-0", "nvidia", "proxy-0"
GROUP_KEY = group_key(NAMESPACE, GROUP)
_SLICES = 64
"""Pods that the node lets use the card at once: memory decides, not their number."""
_AT_REST = (
    (conditions.ACCEPTED, True, Reason.ACCEPTED),
    (conditions.PLACED, True, Reason.PLACED),
    (conditions.CACHED, True, Reason.CACHED),
    (conditions.WANTED, False, Reason.IDLE),
    (conditions.READY, False, Reason.STOPPED),
)


class MemoryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that is in use on the card; without a Pod it is what the driver has not given back yet."""

    pid: int
    memory_mb: int
    pod_uid: str = ""


def key_of(name: str) -> str:
    """Return the key of a Model of the trace."""
    return f"{NAMESPACE}/{name}"


def condition(kind: str, status: bool, reason: str) -> Condition:  # noqa: FBT001 - a status of a condition
    """Return a condition of the only generation that there is."""
    text = conditions.TRUE if status else conditions.FALSE
    return Condition(type=kind, status=text, reason=str(reason), observed_generation=1)


def model_of(one: TraceModel) -> Model:
    """Return a Model that is placed on the card, has its weights, and is scaled to zero."""
    gpu = Gpu(
        vendor=VENDOR,
        shared=GROUP,
        priority=one.priority,
        exclusive=one.exclusive,
        vram_estimate_mb=one.memory_mb,
    )
    status = ModelStatus(
        conditions=tuple(condition(*facts) for facts in _AT_REST),
        placement=Placement(
            node=NODE, vendor=VENDOR, shared=True, devices=placed_devices([UUID], one.memory_mb)
        ),
        backend=BackendStatus(load_seconds=one.load_seconds),
    )
    spec = ModelSpec(
        backend="llamacpp",
        source="pvc://models/weights",
        gpu=gpu,
        serverless=Serverless(enabled=not one.always_on, idle_timeout=one.idle_timeout),
    )
    metadata = Metadata(
        name=one.name, namespace=NAMESPACE, uid=f"uid-{one.name}", resource_version="1", generation=1
    )
    return Model(metadata=metadata, spec=spec, status=status)


def group_of(spec: TraceGroup) -> SharedGroup:
    """Return the SharedGroup, initialised without a holder."""
    metadata = Metadata(
        name=GROUP,
        namespace=NAMESPACE,
        uid="uid-group",
        resource_version="1",
        generation=1,
        finalizers=(HELD_FINALIZER,),
    )
    shared = SharedGroupSpec(
        group=GROUP,
        mode=spec.mode,
        min_stay=spec.min_stay,
        max_wait=spec.max_wait,
        reserve_mb=spec.reserve_mb,
    )
    group = SharedGroup(metadata=metadata, spec=shared, status=SharedGroupStatus())
    return msgspec.structs.replace(group, status=initialized(group, [], [], 0, ""))


def node_facts() -> NodeFacts:
    """Return a node whose card several Pods may use at once."""
    allocatable = {"pods": 110_000, GPU_RESOURCES[VENDOR]: 1000 * _SLICES}
    return NodeFacts(name=NODE, uid=NODE, ready="True", allocatable=allocatable)


def pod_of(model: Model, uid: str, turn: int) -> PodFacts:
    """Return the running Pod of a turn."""
    return PodFacts(
        name=model.pod_name,
        uid=uid,
        model_uid=model.uid,
        turn=turn,
        node=NODE,
        phase="Running",
        running=True,
    )


def sample_of(trace: Trace, number: int, processes: Iterable[MemoryUse]) -> GpusObserved:
    """Return telemetry of the card."""
    present = list(processes)
    used_mb = sum(process.memory_mb for process in present)
    device = Device(
        uuid=UUID,
        vendor=VENDOR,
        total_mb=trace.card.memory_mb,
        used_mb=used_mb,
        free_mb=trace.card.memory_mb - used_mb,
        processes=tuple(
            DeviceProcess(pid=p.pid, used_mb=p.memory_mb, name="engine", started=p.pid, pod_uid=p.pod_uid)
            for p in present
            if p.pod_uid
        ),
    )
    return GpusObserved(node=NODE, boot="boot", sample=number, devices=(device,))
