"""Sentences: an event as one readable line. Pure; what it cannot read it shows as it is, made safe for a terminal."""

from collections.abc import Sequence

from flexinfer.api import conditions
from flexinfer.api.conditions import one_line
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device
from flexinfer.events.workload import JobFacts, PodFacts

_RAW_LIMIT = 160
_READINESS = {conditions.TRUE: "ready", conditions.FALSE: "not ready"}


def sentence(event: AnyEvent) -> str:
    """Return what an event says, as one line."""
    return one_line(_state(event))


def raw(body: bytes) -> str:
    """Return what does not decode, shortened."""
    text = one_line(body.decode(errors="replace"))
    return text if len(text) <= _RAW_LIMIT else text[: _RAW_LIMIT - 1] + "…"


def _state(event: AnyEvent) -> str:
    match event:
        case events.ModelObserved(model=model):
            status = model.status
            about = f": {status.message}" if status.message else ""
            leaving = " and is being deleted" if model.deleting else ""
            return f"{model.key} is {status.phase or 'new'}{leaving}{about}"
        case events.ModelDeleted():
            return f"{event.namespace}/{event.name} is gone"
        case events.WorkloadObserved():
            return f"{event.key} has {_workload(event)}"
        case events.WorkloadDeleted():
            return f"{event.namespace}/{event.name} has nothing in the cluster any more"
        case events.NodeObserved(name=name, node=node):
            return f"node {name} is {_READINESS.get(node.ready, 'silent')}"
        case events.NodeDeleted(name=name):
            return f"node {name} is gone"
        case events.Watermark(counts=counts):
            return "the stream holds " + ", ".join(f"{count} {kind}s" for kind, count in counts.items())
        case _:
            return _live(event)


def _live(event: AnyEvent) -> str:
    match event:
        case events.GpusObserved(node=node, devices=devices, message=message):
            return f"node {node}: {_devices(devices) or message or 'no GPU'}"
        case events.ActivityObserved():
            return (
                f"{event.namespace}/{event.name} at door {event.proxy}: {event.in_flight} in flight, "
                f"{event.waiting} waiting, last asked {event.idle_seconds:.1f} s ago"
            )
        case events.ProxyObserved(proxy=proxy, final=final):
            return f"door {proxy} {'says farewell' if final else 'is there'}"
        case _:
            return _hint(event)


def _hint(event: AnyEvent) -> str:
    match event:
        case events.HistoryRecorded():
            return f"{event.namespace}/{event.name}: {history(event)}"
        case events.WakeRequested(namespace=namespace, name=name):
            return f"{namespace}/{name}: somebody asks for it"
        case events.StatusChanged():
            return f"{event.namespace}/{event.name}: the {event.owner} wrote its status (version {event.version})"
        case events.EngineReady(namespace=namespace, name=name):
            return f"{namespace}/{name}: its engine answers"
        case _:
            return type(event).__name__


def history(event: events.HistoryRecorded) -> str:
    """Return one step of a Model's life: who, what, why and how long."""
    why = f" ({event.reason})" if event.reason else ""
    took = f", took {event.seconds:.2f} s" if event.seconds is not None else ""
    said = f": {event.message}" if event.message else ""
    return f"{event.service} {event.step}{why}{took}{said}"


def _workload(event: events.WorkloadObserved) -> str:
    parts = [_pod(pod) for pod in event.pods]
    parts += [f"Job {job.name} {_job(job)}" for job in event.jobs]
    parts += [f"claim {claim.name} {claim.phase}".rstrip() for claim in event.claims]
    if event.lease is not None:
        holder = event.lease.holder or "nobody"
        parts.append(f"turn {event.lease.turn} of group {event.lease.group}: {holder} {event.lease.step}")
    return ", ".join(parts) or "nothing in the cluster"


def _pod(pod: PodFacts) -> str:
    if pod.deleting:
        state = "stopping"
    elif pod.gated:
        state = "waiting for its turn"
    else:
        state = "ready" if pod.ready else (pod.phase or "new")
    return f"Pod {pod.name} {state}" + (f" ({pod.reason})" if pod.reason else "")


def _job(job: JobFacts) -> str:
    if job.complete:
        return "done"
    return f"failed ({job.failed_reason})" if job.failed_reason else "under way"


def _devices(devices: Sequence[Device]) -> str:
    return ", ".join(
        f"{device.name or device.uuid} {device.free_mb:,} of {device.total_mb:,} MB free"
        for device in devices
    )
