"""Sentences: an event as one readable line. Pure. What does not decode is shown as it is, without control characters."""

from collections.abc import Sequence

from flexinfer.api import conditions
from flexinfer.api.conditions import one_line
from flexinfer.api.lease import GPULease
from flexinfer.api.lease_reasons import LeaseReason
from flexinfer.api.model import Model
from flexinfer.api.phase import explain, phase_of
from flexinfer.api.sharedgroup import BLOCKED, Holder, SharedGroup, object_name
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device
from flexinfer.events.workload import JobFacts, PodFacts
from flexinfer.prefetcher.messages import progress
from flexinfer.prefetcher.status import JobProgress

_RAW_LIMIT, _BAR = 160, 20
_READINESS = {conditions.TRUE: "ready", conditions.FALSE: "not ready"}


def sentence(event: AnyEvent) -> str:
    """Return an event as one line."""
    return one_line(_state(event))


def raw(body: bytes) -> str:
    """Return a message that does not decode, shortened to 160 characters."""
    text = one_line(body.decode(errors="replace"))
    return text if len(text) <= _RAW_LIMIT else text[: _RAW_LIMIT - 1] + "…"


def _state(event: AnyEvent) -> str:
    match event:
        case events.ModelObserved(model=model):
            return f"{model.key} is {summary(model)}"
        case events.ModelDeleted():
            return f"{event.namespace}/{event.name} deleted"
        case events.WorkloadObserved():
            return f"{event.key} has {_workload(event)}"
        case events.WorkloadDeleted():
            return f"{event.namespace}/{event.name} has no Pods, Jobs or PVCs"
        case events.GroupObserved(group=group):
            return f"group {group.metadata.namespace}/{group.name}: {held(group)}"
        case events.GroupDeleted():
            return f"SharedGroup {event.namespace}/{event.name} deleted"
        case events.NodeObserved(name=name, node=node):
            return f"node {name} is {_READINESS.get(node.ready, 'unreachable')}"
        case events.NodeDeleted(name=name):
            return f"node {name} deleted"
        case events.Watermark(counts=counts):
            return "state stream holds " + ", ".join(f"{count} {kind}s" for kind, count in counts.items())
        case _:
            return _lease(event)


def _lease(event: AnyEvent) -> str:
    match event:
        case events.LeaseObserved(lease=lease):
            return f"lease {lease.key} of group {lease.spec.group}: {leased(lease)}"
        case events.LeaseDeleted():
            return f"lease {event.namespace}/{event.name} deleted"
        case _:
            return _live(event)


def held(group: SharedGroup) -> str:
    """Return who holds a group's devices, with turn and step, and what keeps them from being released."""
    if not group.counts:
        return f"ignored: its SharedGroup has the name {object_name(group.name)}"
    if not group.initialized:
        return "not initialised yet"
    holders = [f"{h.label} holds turn {h.turn} ({_step(h)})" for h in group.status.holders]
    blocked = group.condition(BLOCKED)
    cause = f"; blocked: {blocked.message}" if blocked is not None and blocked.true else ""
    return (", ".join(holders) or f"no holder (last turn {group.status.turn})") + cause


def leased(lease: GPULease) -> str:
    """Return how far a lease is: the reason and the message of its condition, which begins with it while the lease is queued."""
    condition = lease.condition()
    if condition is None:
        return "new"
    queued = condition.reason == LeaseReason.QUEUED
    return condition.message if queued else f"{condition.reason}: {condition.message}"


def _step(holder: Holder) -> str:
    return f"{holder.step}: {holder.reason}" if holder.reason else holder.step


def summary(model: Model) -> str:
    """Return the phase of a Model and its explanation.

    Derived from the conditions: `status.phase` is written only when a start has settled, and would be old here.
    """
    current, generation = model.status.conditions, model.metadata.generation
    if not current:
        return "new"
    deleting = ", deleting" if model.deleting else ""
    return f"{phase_of(current, generation)}{deleting}: {explain(current, generation)}"


def _live(event: AnyEvent) -> str:
    match event:
        case events.GpusObserved(node=node, devices=devices, message=message):
            return f"node {node}: {_devices(devices) or message or 'no GPU'}"
        case events.ActivityObserved():
            return (
                f"{event.namespace}/{event.name} at proxy {event.proxy}: {event.in_flight} in flight, "
                f"{event.waiting} queued, last request {event.idle_seconds:.1f}s ago"
            )
        case events.ProxyObserved(proxy=proxy, final=final):
            return f"proxy {proxy} {'shut down' if final else 'heartbeat'}"
        case _:
            return _hint(event)


def _hint(event: AnyEvent) -> str:
    match event:
        case events.HistoryRecorded():
            return f"{event.namespace}/{event.name}: {history(event)}"
        case events.WakeRequested(namespace=namespace, name=name):
            return f"{namespace}/{name}: a request is waiting for a cold start"
        case events.StatusChanged():
            return f"{event.namespace}/{event.name}: status written by the {event.owner} (version {event.version})"
        case events.EngineReady(namespace=namespace, name=name):
            return f"{namespace}/{name}: engine ready"
        case events.SampleAwaited(node=node):
            return f"node {node}: a step waits for a sample of its devices"
        case events.DownloadObserved():
            return f"{event.namespace}/{event.name}: {_download(event)}"
        case _:
            return type(event).__name__


def _download(event: events.DownloadObserved) -> str:
    job = JobProgress(done=event.bytes, total=event.total_bytes, rate=event.bytes_per_second)
    return (
        f"download {bar(job.done, job.total)} {progress(job.done, job.total, job.eta)}, "
        f"{event.bytes_per_second / 1e6:,.1f} MB/s, {event.file}"
    )


def bar(done: int, total: int) -> str:
    """Return a bar of 20 characters."""
    marks = min(_BAR, _BAR * done // max(1, total))
    return f"[{'#' * marks}{'.' * (_BAR - marks)}]"


def history(event: events.HistoryRecorded) -> str:
    """Return one step of a Model's life: component, step, reason, duration, message."""
    reason = f" ({event.reason})" if event.reason else ""
    duration = f", took {event.seconds:.2f}s" if event.seconds is not None else ""
    message = f": {event.message}" if event.message else ""
    return f"{event.service} {event.step}{reason}{duration}{message}"


def _workload(event: events.WorkloadObserved) -> str:
    parts = [_pod(pod) for pod in event.pods]
    parts += [f"Job {job.name} {_job(job)}" for job in event.jobs]
    parts += [f"PVC {claim.name} {claim.phase}".rstrip() for claim in event.claims]
    return ", ".join(parts) or "no Pods, Jobs or PVCs"


def _pod(pod: PodFacts) -> str:
    if pod.deleting:
        state = "terminating"
    elif pod.gated:
        state = "gated until its turn is confirmed"
    else:
        state = "ready" if pod.ready else (pod.phase or "new")
    return f"Pod {pod.name} {state}" + (f" ({pod.reason})" if pod.reason else "")


def _job(job: JobFacts) -> str:
    if job.complete:
        return "complete"
    return f"failed ({job.failed_reason})" if job.failed_reason else "running"


def _devices(devices: Sequence[Device]) -> str:
    return ", ".join(
        f"{device.name or device.uuid} {device.free_mb:,} of {device.total_mb:,} MB free"
        for device in devices
    )
