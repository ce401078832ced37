"""The steps before a stop: when a Pod must be replaced, and when in-flight requests have completed. Pure; the stop itself is `stop`."""

from collections.abc import Iterator

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import status
from flexinfer.launcher.effects import Action, Purpose, Stop
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.launcher.view import ModelContext, ModelView
from flexinfer.state.actions import RequeueAt
from flexinfer.state.observed import HEARTBEAT_GAP

PROXY_QUIET_SECONDS = 1.0
"""A proxy reports changed traffic at most this late, so a heartbeat that much after a stop includes what the proxy knew of it."""


def renewal_cause(view: ModelView, pod: PodFacts, settings: LaunchSettings) -> str:
    """Return why a Pod must be replaced by another of the same Model; empty if it need not be.

    Templates are compared once a generation: an engine that was Ready at this generation keeps running, also when a newer release of
    FlexInfer would render its template differently.
    """
    if not view.gates_open:
        return ""
    if pod.turn != view.turn:
        return f"its Pod is of turn {pod.turn}, not of {view.turn}"
    if view.ready.true and view.ready.current and not view.ready.older_spec:
        return ""
    rendered = template(view.model, settings)
    return "its Pod template changed" if rendered is not None and rendered.digest != pod.template else ""


def at_rest(context: ModelContext) -> bool:
    """Tell whether a stop has nothing left to do: no Pod, Ready at rest, the turn given back, the finalizer removed."""
    view, owed = context.view, context.view.release_turn
    returned = not owed or (view.ready.reason == Reason.STOPPED and view.backend.turn == owed)
    finalizer = view.model.deleting and RUNNING_FINALIZER in view.model.metadata.finalizers
    return not context.pods and view.ready.at_rest and returned and not finalizer


def stop(context: ModelContext, cause: str, purpose: Purpose) -> Iterator[Action]:
    """Yield the next step of a stop: publish that the engine drains, wait for in-flight requests, delete.

    Nothing drains on a node that is gone, nor before the engine was Ready.
    """
    view = context.view
    if context.pods and not view.node_gone:
        if view.ready.true:
            yield from status.say_not_ready(context, Reason.DRAINING, _draining(context, cause))
            return
        until = _drained_by(context) if view.ready.draining else None
        if until is not None:
            yield RequeueAt(until)
            return
    yield Stop(
        model=view.model,
        pods=context.pods,
        purpose=purpose,
        cause=cause,
        draining_since=context.since(conditions.READY) if view.ready.draining else None,
        force=view.node_gone,
    )


def _draining(context: ModelContext, cause: str) -> str:
    """Return the message of a drain as it begins; the number of requests is that of its beginning."""
    traffic = context.state.activity_of(context.view.model)
    requests = sum(activity.in_flight for activity in traffic.values())
    seconds = f"{context.settings.drain_seconds:g}s"
    noun = "request was" if requests == 1 else "requests were"
    return (
        f"draining ({cause}): {requests} {noun} in flight when the drain began; "
        f"the engine stops when they complete, after {seconds} at the latest"
    )


def _drained_by(context: ModelContext) -> float | None:
    """Return when to look at the drain again at the latest; None once no request is in flight, or after the deadline."""
    began = context.since(conditions.READY)
    deadline = began + context.settings.drain_seconds
    if context.now >= deadline:
        return None
    # Without NATS the proxies' numbers are old: unknown is not drained.
    if context.state.connected_since is None or _engine_busy(context, began):
        return deadline
    live = (
        (name, proxy.last)
        for name, proxy in context.state.proxies.items()
        if not proxy.final and context.now - proxy.last <= HEARTBEAT_GAP
    )
    return None if all(_confirmed(context, name, last, began) for name, last in live) else deadline


def _confirmed(context: ModelContext, proxy: str, last: float, began: float) -> bool:
    """Tell whether a proxy has reported, since the stop was published, that it has no request of this Model in flight."""
    model = context.view.model
    activity = context.state.activity_of(model).get(proxy)
    if activity is None:
        return last >= began + PROXY_QUIET_SECONDS
    return not activity.in_flight and (activity.at >= began or last >= began + PROXY_QUIET_SECONDS)


def _engine_busy(context: ModelContext, began: float) -> bool:
    """Tell whether the engine itself still reports requests, or has not been asked since: others may reach it past the proxies."""
    backend = backends.find(context.view.model.spec.backend)
    if backend is None or not backend.in_flight or context.probe is None:
        return False
    return context.probe.at < began or bool(context.probe.answer.in_flight)
