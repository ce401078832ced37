"""GpuUsage: who holds the memory of each card, from telemetry and Pods. Pure; `gpus` prints it."""

from collections.abc import Collection, Iterator, Mapping

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.leases import leased_on
from flexinfer.state.observed import ObservedState

MODEL, POD, LEASE, RELEASED, FOREIGN, UNLISTED = "Model", "Pod", "Lease", "Released", "Foreign", "Unlisted"
"""Who holds memory: a Model's Pod, another Pod, a process of a GPULease, of one that is over or was given back, or another one outside
Kubernetes, or no process that the driver lists."""


def _json_name(field: str) -> str:
    """Return the name of a field in JSON, as in the API: `total_mb` is `totalMB`."""
    first, *rest = field.split("_")
    return first + "".join("MB" if word == "mb" else word.capitalize() for word in rest)


class Holder(msgspec.Struct, frozen=True, kw_only=True, rename=_json_name, omit_defaults=True):
    """Memory of a card, in MiB, and who holds it: a Model or GPULease by its key, a Pod by its uid, a process by its name.

    Of a Model, `footprint_mb` is what it was placed with on this card, and `footprint_source` where that is from.
    """

    kind: str
    name: str
    memory_mb: int
    pid: int = 0
    process: str = ""
    footprint_mb: int = 0
    footprint_source: str = ""


class Card(msgspec.Struct, frozen=True, kw_only=True, rename=_json_name, omit_defaults=True):
    """A card of a node. Memory is in MiB, temperature in degrees Celsius, power in watts, utilisation in percent."""

    uuid: str
    name: str
    vendor: str
    architecture: str
    total_mb: int
    free_mb: int
    used_mb: int
    temperature: int = 0
    power_watts: int = 0
    utilisation: int = 0
    healthy: bool = True
    mig: bool = False
    processes_known: bool = True
    errors: tuple[str, ...] = ()
    holders: tuple[Holder, ...] = ()


class NodeUsage(msgspec.Struct, frozen=True, kw_only=True, rename=_json_name, omit_defaults=True):
    """A node and its cards; `message` says why there are none, or what is wrong with its telemetry."""

    node: str
    cards: tuple[Card, ...] = ()
    message: str = ""


def usage(state: ObservedState) -> list[NodeUsage]:
    """Return the cards of every node, by its name; a node without telemetry is listed with what is known."""
    models = {pod.uid: key for key, workload in state.workloads.items() for pod in workload.pods}
    return [_node(state, name, models) for name in sorted({*state.nodes, *state.gpus})]


def _node(state: ObservedState, name: str, models: Mapping[str, str]) -> NodeUsage:
    sample = state.gpus.get(name)
    if sample is None:
        return NodeUsage(node=name, message=_without_telemetry(state, name))
    leases = leased_on(state, name)
    over = frozenset(key for key in leases.values() if not _is_granted(state, key))
    cards = tuple(
        _with_footprints(_card(device, models, leases, over), state) for device in sample.observed.devices
    )
    message = sample.observed.message or ("" if cards else "no GPUs")
    return NodeUsage(node=name, cards=cards, message=message)


def _without_telemetry(state: ObservedState, name: str) -> str:
    node = state.nodes.get(name)
    amounts = node.allocatable if node is not None else {}
    parts = [
        f"{amounts[resource] // 1000} {resource}"
        for resource in GPU_RESOURCES.values()
        if amounts.get(resource)
    ]
    silent = "no telemetry: its agent is starting, is not running, or cannot reach NATS"
    return f"offers {', '.join(parts)}, but {silent}" if parts else silent


def _is_granted(state: ObservedState, key: str) -> bool:
    lease = state.leases.get(key)
    return lease is not None and lease.granted


def _card(
    device: Device, models: Mapping[str, str], leases: Mapping[int, str], over: Collection[str]
) -> Card:
    """Return a card with its holders.

    `models` is the uid of a Pod -> the key of its Model, `leases` the number of a process -> the key of its lease; of `over`, those that are
    over or were given back.
    """
    return Card(
        uuid=device.uuid,
        name=device.name,
        vendor=device.vendor,
        architecture=device.architecture,
        total_mb=device.total_mb,
        free_mb=device.free_mb,
        used_mb=device.used_mb,
        temperature=device.temperature,
        power_watts=device.power_watts,
        utilisation=device.utilisation,
        healthy=device.healthy,
        mig=device.mig,
        processes_known=device.processes_known,
        errors=device.errors,
        holders=tuple(_holders(device, models, leases, over)),
    )


def _with_footprints(card: Card, state: ObservedState) -> Card:
    """Return a card whose Models have the footprints of their placements."""
    holders = tuple(_with_footprint(holder, card.uuid, state) for holder in card.holders)
    return msgspec.structs.replace(card, holders=holders)


def _with_footprint(holder: Holder, uuid: str, state: ObservedState) -> Holder:
    model = state.models.get(holder.name) if holder.kind == MODEL else None
    placement = model.status.placement if model is not None else None
    device = next((d for d in placement.devices if d.uuid == uuid), None) if placement is not None else None
    if placement is None or device is None or not device.memory_mb:
        return holder
    return msgspec.structs.replace(
        holder, footprint_mb=device.memory_mb, footprint_source=placement.footprint_source
    )


def _holders(
    device: Device, models: Mapping[str, str], leases: Mapping[int, str], over: Collection[str]
) -> Iterator[Holder]:
    """Yield Models, then other Pods, then processes of leases, then foreign processes, each the largest first; last what no process accounts for."""
    holders = [_holder(process, models, leases, over) for process in device.processes]
    order = (MODEL, POD, LEASE, RELEASED, FOREIGN)
    yield from sorted(holders, key=lambda holder: (order.index(holder.kind), -holder.memory_mb, holder.name))
    unlisted_mb = device.used_mb - sum(holder.memory_mb for holder in holders)
    if unlisted_mb > 0:
        yield Holder(kind=UNLISTED, name="", memory_mb=unlisted_mb)


def _holder(
    process: DeviceProcess, models: Mapping[str, str], leases: Mapping[int, str], over: Collection[str]
) -> Holder:
    pid, name, memory = process.pid, process.name, process.used_mb
    if process.pod_uid in models:
        return Holder(kind=MODEL, name=models[process.pod_uid], memory_mb=memory, pid=pid, process=name)
    if process.pod_uid:
        return Holder(kind=POD, name=process.pod_uid, memory_mb=memory, pid=pid, process=name)
    if pid in leases:
        kind = RELEASED if leases[pid] in over else LEASE
        return Holder(kind=kind, name=leases[pid], memory_mb=memory, pid=pid, process=name)
    return Holder(kind=FOREIGN, name=name or "unknown", memory_mb=memory, pid=pid, process=name)
