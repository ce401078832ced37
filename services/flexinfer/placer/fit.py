"""Does a Model fit on a node? The filters, each with a sentence that holds the numbers. Pure.

`obstacle` is about what does not change by waiting: labels, taints, what the hardware is. `fits` adds what is free right now.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from flexinfer.api import conditions
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.placer.requirements import Requirements

STALE_SECONDS = 30.0
"""Older telemetry is not believed for a new start on a device."""
_MEBI = 1000 * 2**20


class Unschedulable(msgspec.Struct, frozen=True):
    """Why a node will not do, and what would help; the higher the rank, the nearer it came."""

    message: str
    remedy: str
    rank: int


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """How a Model would live on a node; `slack` is what it leaves unused: less is better."""

    node: str
    vendor: str = "cpu"
    devices: tuple[str, ...] = ()
    architecture: str = ""
    slack: float = 0.0
    score: int = 0
    reason: str = ""


class Available(msgspec.Struct, frozen=True, kw_only=True):
    """What a node has left for one Model: amounts in thousandths, and its devices.

    `fresh`: its telemetry is young. `trust`: free memory counts; without it only the size of a device does, since whoever
    fills it leaves first.
    """

    node: NodeFacts
    free: Mapping[str, int]
    devices: Sequence[Device] = ()
    fresh: bool = False
    trust: bool = True
    models: int = 0
    kept_for: str = ""
    preferred: tuple[str, ...] = ()


def static_mismatch(need: Requirements, node: NodeFacts, devices: Sequence[Device]) -> Unschedulable | None:
    """Return why a node can never take a Model, as things are built; None when it could."""
    return next(_obstacles(need, node, devices), None)


def evaluate(need: Requirements, stock: Available) -> Candidate | Unschedulable:
    """Return how a Model would live on a node, or why it cannot now."""
    no = next(_hindrances(need, stock), None)
    if no is not None:
        return no
    if not need.devices:
        reason = f"{stock.models} other Models live there"
        architecture = stock.node.labels.get("kubernetes.io/arch", "")
        return Candidate(
            node=stock.node.name, architecture=architecture, slack=float(stock.models), reason=reason
        )
    tried = [_pick(need, stock, vendor) for vendor in need.vendors]
    fitting = [t for t in tried if isinstance(t, Candidate)]
    return (
        fitting[0]
        if fitting
        else max((t for t in tried if isinstance(t, Unschedulable)), key=lambda no: no.rank)
    )


def _obstacles(need: Requirements, node: NodeFacts, devices: Sequence[Device]) -> Iterator[Unschedulable]:
    for taint in node.taints:
        if not need.tolerates(taint):
            said = f"{taint.key}={taint.value}" if taint.value else taint.key
            yield Unschedulable(f"has the taint {said}:{taint.effect}", "remove the taint", 1)
    for label, value in sorted(need.selector.items()):
        had = node.labels.get(label)
        if had != value:
            said = f"lacks the label {label}={value}" if had is None else f"has {label}={had}, not {value}"
            yield Unschedulable(said, "label a node, or change spec.nodeSelector", 2)
    if need.devices:
        lacks = [_hardware(need, node, devices, vendor) for vendor in need.vendors]
        if None not in lacks:
            yield max((no for no in lacks if no is not None), key=lambda no: no.rank)
    for name, amount in sorted(need.amounts.items()):
        whole = node.allocatable.get(name)
        if whole is not None and amount > whole:
            told = f"has {_amount(name, whole)} {name} in all, {_amount(name, amount)} asked for"
            yield Unschedulable(told, f"lower spec.resources.requests.{name}", 5)


def _hardware(
    need: Requirements, node: NodeFacts, devices: Sequence[Device], vendor: str
) -> Unschedulable | None:
    """Return why a vendor's devices of a node can never do."""
    resource = GPU_RESOURCES[vendor]
    offered = node.allocatable.get(resource, 0) // 1000
    if offered < need.devices:
        remedy = "use a node that offers them, or change spec.gpu" + (".count" if offered else "")
        return Unschedulable(
            f"offers {offered} {resource}, {need.devices} asked for", remedy, 3 if offered else 2
        )
    known = [d for d in devices if d.vendor == vendor]
    usable = [d for d in known if need.runs_on(d)]
    if known and len(usable) < need.devices:
        worst = next(d for d in known if not need.runs_on(d)) if len(usable) < len(known) else known[0]
        state = f"{worst.name or worst.uuid} ({worst.architecture or 'unhealthy'})"
        return Unschedulable(
            f"its {state} cannot run {need.backend}", "use another spec.backend or another node", 4
        )
    large = [d for d in usable if d.total_mb >= need.vram_mb]
    if known and len(large) < need.devices:
        most = max(d.total_mb for d in usable)
        told = (
            f"needs {need.vram_mb} MB on each of {need.devices} device(s), the largest has {most} MB in all"
        )
        return Unschedulable(told, "lower spec.gpu.vramEstimateMB, for instance by a smaller quantisation", 5)
    return None


def _hindrances(need: Requirements, stock: Available) -> Iterator[Unschedulable]:
    """Yield what keeps a Model off a node, devices' free memory aside; the first thing to mend comes first."""
    if stock.node.ready != conditions.TRUE:
        yield Unschedulable("is not ready", "bring the node back", 0)
    if stock.node.unschedulable:
        yield Unschedulable("is cordoned", f"run kubectl uncordon {stock.node.name}", 0)
    yield from _obstacles(need, stock.node, stock.devices)
    for name, amount in sorted(need.amounts.items()):
        if name not in stock.node.allocatable:
            continue
        free = max(0, stock.free.get(name, 0))
        if amount > free:
            told = f"has {_amount(name, free)} {name} free, {_amount(name, amount)} asked for"
            yield Unschedulable(told, f"stop something there, or lower spec.resources.requests.{name}", 6)


def _pick(need: Requirements, stock: Available, vendor: str) -> Candidate | Unschedulable:
    """Choose devices of one vendor: those that the Model fills best, or with most room when its size is unknown."""
    resource = GPU_RESOURCES[vendor]
    wrong = _hardware(need, stock.node, stock.devices, vendor) or _count(need, stock, resource)
    if wrong is not None:
        return wrong
    known = [d for d in stock.devices if d.vendor == vendor and need.runs_on(d)]
    if not stock.fresh or not known:
        if stock.trust:
            told = f"has sent no telemetry of its devices for {STALE_SECONDS:.0f} s"
            return Unschedulable(told, "see whether its agent runs", 6)
        return Candidate(node=stock.node.name, vendor=vendor)
    room = {d.uuid: min(d.free_mb, d.total_mb) if stock.trust else d.total_mb for d in known}
    enough = [d for d in known if room[d.uuid] >= need.vram_mb]
    if len(enough) < need.devices:
        told = f"needs {need.vram_mb} MB on each of {need.devices} device(s), {max(room.values())} MB free at most"
        remedy = "stop what fills it, lower spec.gpu.vramEstimateMB, or share the device by spec.gpu.shared"
        return Unschedulable(told, remedy, 7)
    sign = 1 if need.vram_mb else -1
    order = sorted(enough, key=lambda d: (d.uuid not in stock.preferred, sign * room[d.uuid], d.uuid))
    chosen = order[: need.devices]
    left = sum(room[d.uuid] for d in chosen)
    return Candidate(
        node=stock.node.name,
        vendor=vendor,
        devices=tuple(d.uuid for d in chosen),
        architecture=chosen[0].architecture,
        slack=float(left - need.vram_mb * need.devices) if need.vram_mb else -float(left),
        score=100 * need.vram_mb * need.devices // max(1, left),
        reason=f"{left} MB free on {len(chosen)} device(s)",
    )


def _count(need: Requirements, stock: Available, resource: str) -> Unschedulable | None:
    free = max(0, stock.free.get(resource, 0)) // 1000
    if free >= need.devices:
        return None
    offered = stock.node.allocatable.get(resource, 0) // 1000
    told = f"has {free} of {offered} {resource} free, {need.devices} asked for"
    if stock.kept_for:
        told += f" (home of the shared group {stock.kept_for})"
    return Unschedulable(told, "stop a Model there, or let them take turns by the same spec.gpu.shared", 6)


def _amount(name: str, thousandths: int) -> str:
    """Return an amount as people write it."""
    if name in ("memory", "ephemeral-storage"):
        return f"{thousandths / _MEBI:.0f}Mi"
    return f"{thousandths / 1000:g}"
