"""The steps before a stop: when a Pod must be replaced, and when in-flight requests have completed. Pure; the stop itself is `stop`."""

import math
from collections.abc import Iterator

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import status
from flexinfer.launcher.effects import Action, Purpose, Stop
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.launcher.unresponsive import runs_as_ready
from flexinfer.launcher.view import ModelContext, ModelView
from flexinfer.state.actions import CatchUp, RequeueAt
from flexinfer.state.observed import HEARTBEAT_GAP, Activity, ProxyHeartbeat

PROXY_QUIET_SECONDS = 1.0
"""A proxy reports changed traffic at most this late: a request that it had is reported that long after its heartbeat."""
ALL_HEARD_SECONDS = 6.0
"""How long after NATS is connected each proxy has been heard: they send a heartbeat every 5 s."""


def renewal_cause(view: ModelView, pod: PodFacts, settings: LaunchSettings) -> str:
    """Return why a Pod must be replaced by another of the same Model; empty if it need not be.

    Templates are compared once a generation: an engine that was Ready at this generation keeps running, also when a newer release of
    FlexInfer would render its template differently, and when it does not answer for a while.
    """
    if cause := unopened_cause(view, pod):
        return cause
    if not view.gates_open:
        return ""
    if pod.turn != view.turn:
        return f"its Pod is of turn {pod.turn}, not of {view.turn}"
    node = view.model.assigned_node
    if pod.node and node and pod.node != node:
        return f"it is placed on node {node} now, and its Pod runs on {pod.node}"
    if view.ready.serves_spec or runs_as_ready(view, pod):
        return ""
    pod_template = template(view.model, settings)
    return (
        "its Pod template changed" if pod_template is not None and pod_template.digest != pod.template else ""
    )


def unopened_cause(view: ModelView, pod: PodFacts) -> str:
    """Return why the gate of a Pod is not opened, which in a group its turn names already; empty while it may be.

    A turn is not kept for a Model that has to be placed again, or whose weights are not there any more; nor does its start continue.
    """
    if not pod.gated or (view.turn and view.turn_pod != pod.uid):
        return ""
    if view.gates_open and view.moved:
        return f"its turn {view.turn} is of other devices or less memory than its placement"
    closed_gates = [
        kind
        for kind, gate in ((conditions.PLACED, view.placed), (conditions.CACHED, view.cached))
        if gate.false
    ]
    return f"{closed_gates[0]} turned False before its Pod was open" if closed_gates else ""


def at_rest(context: ModelContext) -> bool:
    """Return whether a stop has nothing left to do: no Pod, Ready at rest, the turn given back, the finalizer removed."""
    view, turn = context.view, context.view.release_turn
    returned = not turn or view.has_returned(turn)
    finalizer = view.model.deleting and RUNNING_FINALIZER in view.model.metadata.finalizers
    return not context.pods and view.ready.at_rest and returned and not finalizer


def stop(context: ModelContext, cause: str, purpose: Purpose) -> Iterator[Action]:
    """Yield the next step of a stop: publish that the engine drains, wait for in-flight requests, delete.

    Nothing drains on a node that is gone, nor an engine that has not been Ready.
    """
    view = context.view
    if context.pods and not view.node_gone:
        if _may_serve(context):
            yield from status.write_not_ready(context, Reason.DRAINING, _draining(context, cause))
            return
        until = _drained_by(context) if view.ready.draining else None
        if until is not None:
            yield RequeueAt(until)
            return
        if view.ready.draining and _silence_unread(context):
            yield CatchUp()
            return
    yield Stop(
        model=view.model,
        pods=context.pods,
        purpose=purpose,
        cause=cause,
        draining_since=context.since(conditions.READY) if view.ready.draining else None,
        force=view.node_gone,
    )


def _may_serve(context: ModelContext) -> bool:
    """Return whether an engine may have requests although no drain was published.

    Routed to it are none unless it is Ready, but those that it had continue while it is not heard (Unknown: a silent node)
    and while it answers no health check (Restarting): there, what a proxy reports tells.
    """
    ready = context.view.ready
    if ready.reason == Reason.RESTARTING and _running(context):
        return _in_flight(context) > 0
    return ready.true or ready.unknown


def _in_flight(context: ModelContext) -> int:
    """Return the number of requests in flight that the proxies reported last."""
    return sum(activity.in_flight for activity in context.state.activity_of(context.view.model).values())


def _draining(context: ModelContext, cause: str) -> str:
    """Return the message of a drain as it begins; the number of requests is that of its beginning."""
    requests = _in_flight(context)
    seconds = f"{context.settings.drain_seconds:g}s"
    if not requests:
        ends = f"the engine stops once every proxy has stopped routing to it, after {seconds} at the latest"
        return f"draining ({cause}): no request was in flight when the drain began; {ends}"
    noun, complete = ("request was", "it completes") if requests == 1 else ("requests were", "they complete")
    return (
        f"draining ({cause}): {requests} {noun} in flight when the drain began; "
        f"the engine stops when {complete}, after {seconds} at the latest"
    )


def _drained_by(context: ModelContext) -> float | None:
    """Return when to look at the drain again at the latest; None once no request is in flight, or after the deadline.

    Unknown is not drained. NATS is needed to hear the proxies, a heartbeat of each since it is connected, and a number from an engine that
    counts its requests itself: others may reach it past the proxies.
    """
    state, began = context.state, context.since(conditions.READY)
    deadline = began + context.settings.drain_seconds
    if context.now >= deadline or not _running(context):
        return None
    if state.connected_since is None or _engine_busy(context, began):
        return deadline
    waits = [state.connected_since + ALL_HEARD_SECONDS, *_proxies_done(context, deadline)]
    pending = [at for at in waits if at > context.now]
    return min(deadline, *pending) if pending else None


def _running(context: ModelContext) -> bool:
    """Return whether an engine runs that a stop would end: not once its Pod has ended, nor while that is being deleted in any case."""
    return any(not (pod.ended or pod.deleting) for pod in context.pods)


def _proxies_done(context: ModelContext, deadline: float) -> Iterator[float]:
    """Yield for each proxy from when it counts as done, or when to look at it again; the deadline if none is known, for there is one.

    A proxy that fell silent without a shutdown message is given up, but for the requests of this Model that it reported last.
    """
    traffic = context.state.activity_of(context.view.model)
    proxies = {name: proxy for name, proxy in context.state.proxies.items() if not proxy.final}
    busy = {name for name, activity in traffic.items() if activity.in_flight and name in proxies}
    live = {name for name, proxy in proxies.items() if context.now < proxy.last + HEARTBEAT_GAP}
    if busy or not live:
        yield deadline
    for name in live - busy:
        done_at = _done_at(context, traffic.get(name), proxies[name])
        yield done_at if done_at is not None else proxies[name].last + HEARTBEAT_GAP


def _silence_unread(context: ModelContext) -> bool:
    """Return whether a proxy counts as silent although what it sent may not have been read yet, as after a pause of this process."""
    state = context.state
    given_up = [
        proxy.last + HEARTBEAT_GAP
        for proxy in state.proxies.values()
        if not proxy.final and proxy.last + HEARTBEAT_GAP <= context.now
    ]
    return state.connected_since is not None and state.caught_up_at < max(given_up, default=-math.inf)


def _done_at(context: ModelContext, activity: Activity | None, heartbeat: ProxyHeartbeat) -> float | None:
    """Return from when it is known that a proxy without a request of this Model in flight has seen the stop; None: not known.

    Only what it published after it had observed the Model as it is now counts: else it may still send requests.
    """
    version = context.view.model.metadata.version
    if activity is not None and activity.version >= version:
        return activity.at
    # A proxy that has seen the stop reports on the Model beside its heartbeat; without that report it has no request of it.
    return heartbeat.version_at + PROXY_QUIET_SECONDS if heartbeat.version >= version else None


def _engine_busy(context: ModelContext, began: float) -> bool:
    """Return whether the engine itself reports requests, or has told no number since the drain began."""
    backend = backends.find(context.view.model.spec.backend)
    if backend is None or not backend.in_flight:
        return False
    probe = context.probe
    return probe is None or probe.at < began or probe.answer.in_flight != 0
