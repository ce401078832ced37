"""An engine that does not answer yet: how far its start has come, and until when. Pure."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.address import host_port
from flexinfer.api.conditions import clause
from flexinfer.api.model import Model
from flexinfer.api.numbers import counted
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import engine_end, retry, status, unresponsive
from flexinfer.launcher.effects import Action
from flexinfer.launcher.view import GATES, RESTART, ModelContext
from flexinfer.state.actions import RequeueAt

BINDING_SECONDS = 0.25
"""A scheduler needs some 10 ms for a Pod that fits: one that is bound within this long is not reported as waiting, which saves a write."""
_IMAGE_BACK_OFF = "ImagePullBackOff"
_NO_IMAGE = frozenset({"ErrImagePull", _IMAGE_BACK_OFF, "InvalidImageName", "ErrImageNeverPull"})
_CRASH_LOOP = "CrashLoopBackOff"
_NODE_WAITS = "; back-off: the node"
_NO_PROGRAM = "ProgramNotInstalled"
"""What the local node says of an image whose program is not installed (`localkube.kubelet.image_runtimes`)."""
_ORDINARY = frozenset({"ContainerCreating", "PodInitializing"})
"""What every container waits for: worth reporting only with a message."""
_WAS_GATED = "SchedulingGated"
"""What a Pod's condition still says for a moment after its gate has opened."""
SCHEDULING = status.SCHEDULING
IMAGE, WEIGHTS = "Image", "Weights"


class Stage(NamedTuple):
    """A stage of loading: reason and message of Ready, and `status.backend.loadingStage`."""

    reason: str
    message: str
    name: str


def load(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """Yield how far an engine that does not answer has come, or that it made no progress before its deadline."""
    if context.now < (asked_by := _asked_by(context, pod)):
        yield from (RequeueAt(at) for at in (asked_by,) if at < math.inf)
        return
    view, stage = context.view, stage_of(context, pod)
    if stage.name == SCHEDULING and context.now < (bound_by := _bound_by(context)):
        yield RequeueAt(bound_by)
        return
    seconds = retry.stage_seconds(view.model, context.settings, stage.reason)
    deadline = _progressed_at(context, stage) + seconds
    if view.ready.reason == stage.reason:
        if context.now >= deadline:
            yield from _give_up(context, pod, stage, seconds)
            return
        yield RequeueAt(deadline)
    restarts = max(pod.restarts, view.backend.restarts if view.ready.loading else 0)
    backend = status.at_stage(view, stage.name, restarts)
    yield from status.write_not_ready(context, stage.reason, stage.message, backend, status.RUN_GATES)


def _progressed_at(context: ModelContext, stage: Stage) -> float:
    """Return when a start last made progress: another stage, a new answer of its health check, or more device memory."""
    began, progress = context.since(conditions.READY), context.progress
    return max(began, progress.at) if progress is not None and stage.name == WEIGHTS else began


def _asked_by(context: ModelContext, pod: PodFacts) -> float:
    """Return until when an engine that was Ready stays as it is because it has not been asked since this process started.

    Without end while requests are routed to it: these show whether it answers.
    """
    answer = context.probe.answer if context.probe is not None else None
    view = context.view
    if answer is not None and (answer.detail or answer.healthy):
        return -math.inf
    if view.ready.true and view.backend.address == address(view.model, pod):
        return math.inf
    if view.ready.unknown and unresponsive.runs_as_ready(view, pod):
        seen_at = context.state.first_seen.get(view.model.uid, -math.inf)
        return seen_at + retry.stage_seconds(view.model, context.settings, Reason.RESTARTING)
    return -math.inf


def _bound_by(context: ModelContext) -> float:
    """Return until when a Pod without a node is not reported as waiting; a start that was reported already continues being reported."""
    began = started_at(context)
    return context.now if context.view.ready.loading or began is None else began + BINDING_SECONDS


def _give_up(context: ModelContext, pod: PodFacts, stage: Stage, seconds: float) -> Iterator[Action]:
    view, namespace = context.view, context.view.model.metadata.namespace
    command = (
        "logs" if stage.name in (WEIGHTS, RESTART, unresponsive.STAGE) else "describe pod"
    )  # before its process there is no log
    cause = f"no progress for {seconds:g}s: {stage.message.partition(_NODE_WAITS)[0]}; see kubectl {command} -n {namespace} {pod.name}"
    if view.always_on or not view.gates_open:  # what is given up is no start of the newer spec
        yield from retry.back_off_after(context, cause)
        return
    backend = status.at_stage(view, stage.name, pod.restarts)
    yield from status.write_not_ready(context, Reason.LOADING_TIMEOUT, cause, backend, status.RUN_GATES)


def stage_of(context: ModelContext, pod: PodFacts) -> Stage:
    """Return how far a Pod whose engine does not answer has come.

    A restart is no progress: an engine that restarted once is Restarting until it answers, and one that the node restarts with a delay
    BackOff; its deadline runs on. The same holds for an image that cannot be pulled. An engine that its node stopped at a shutdown and
    starts again has not failed: it loads.
    """
    ready = context.view.ready
    if pod.reason == _NO_PROGRAM:
        return Stage(Reason.ENGINE_NOT_INSTALLED, f"engine is not installed: {clause(pod.message)}", IMAGE)
    if pod.reason in _NO_IMAGE or (ready.reason == Reason.IMAGE_PULL_FAILED and not pod.running):
        return Stage(Reason.IMAGE_PULL_FAILED, _image_failure(context, pod), IMAGE)
    resumed = _resumed(context, pod)
    if pod.reason == _CRASH_LOOP or (ready.in_pod and not resumed):
        return Stage(Reason.BACK_OFF, _crash_loop(context, pod), RESTART)
    if (
        unresponsive.served(context.view) or pod.restarts or ready.reason == Reason.RESTARTING
    ) and not resumed:
        name = unresponsive.STAGE if unresponsive.runs_as_ready(context.view, pod) else RESTART
        return Stage(Reason.RESTARTING, _restart(context, pod), name)
    if pod.running:
        return Stage(Reason.LOADING, f"engine process runs on node {pod.node} and loads the weights", WEIGHTS)
    if not pod.node:
        cause = f": {clause(pod.message)}" if pod.message and pod.reason != _WAS_GATED else ""
        return Stage(Reason.STARTING, f"{status.WAITING_FOR_SCHEDULER}{cause}", SCHEDULING)
    reason = "" if pod.reason in _ORDINARY and not pod.message else pod.reason
    cause = f" ({engine_end.joined(reason, pod.message)})" if reason else ""
    return Stage(Reason.STARTING, f"Pod is starting on node {pod.node}{cause}", IMAGE)


def _resumed(context: ModelContext, pod: PodFacts) -> bool:
    """Return whether an engine starts again that its node stopped at a shutdown; not one that has stopped responding since."""
    view = context.view
    replaced = not pod.running or pod.restarts > view.backend.restarts
    return engine_end.stopped_by_node(pod) and (
        replaced or view.ready.reason in (Reason.STARTING, Reason.LOADING)
    )


def _image_failure(context: ModelContext, pod: PodFacts) -> str:
    """Return the node's error. Between two tries the kubelet only says that it backs off: the error of the try is kept."""
    ready = context.view.ready
    reported = ready.reason == Reason.IMAGE_PULL_FAILED
    if reported and (pod.reason == _IMAGE_BACK_OFF or pod.reason not in _NO_IMAGE):
        return ready.message
    return f"image pull failed: {engine_end.joined(pod.reason, pod.message)}"


def _restart(context: ModelContext, pod: PodFacts) -> str:
    same_process = unresponsive.runs_as_ready(context.view, pod)
    if same_process or pod.exit_code is None or engine_end.stopped_by_node(pod):
        detail = context.probe.answer.detail if context.probe is not None else ""
        return f"engine stopped responding ({clause(detail)})" if detail else "engine stopped responding"
    last = clause(engine_end.cause(context.view.model, pod))
    cause = f" ({last})" if last else ""
    return f"engine ended with exit code {pod.exit_code}{cause}; {_times(pod.restarts)}{engine_end.remedy(context.view.model, pod)}"


def _crash_loop(context: ModelContext, pod: PodFacts) -> str:
    """Return why an engine is restarted with a delay, and how long that is as the node said last: it stays while an attempt runs."""
    delay = engine_end.NODE_BACK_OFF.search(pod.message) if pod.reason == _CRASH_LOOP else None
    cause, message = _restart(context, pod), context.view.ready.message
    if delay is None and message.startswith(f"{cause}{_NODE_WAITS}"):
        return message
    waits = f" waits {delay[1]}" if delay is not None else ""
    return f"{cause}{_NODE_WAITS}{waits or ' waits ever longer'} before each attempt"


def _times(restarts: int) -> str:
    return f"restarted {counted(restarts, 'time')}"


def address(model: Model, pod: PodFacts) -> str:
    """Return host:port of a Pod's engine; empty while it has no address."""
    backend = backends.find(model.spec.backend)
    return host_port(pod.ip, backend.port) if backend is not None and pod.ip else ""


def started_at(context: ModelContext) -> float | None:
    """Return when the last gate opened, or the previous process ended; None if that was not observed.

    An engine that its node stopped at a shutdown starts once the node runs again, which may be days later: it was seen to if it was seen to load.
    """
    ready, pod = context.view.ready, context.pod
    resumed = pod is not None and _resumed(context, pod)
    if resumed and ready.reason == Reason.STARTING:
        return None
    kinds = (conditions.READY,) if ready.restarting or resumed else GATES
    times = (context.state.changed(context.view.model, kind) for kind in kinds)
    return max((at for at in times if at is not None), default=None)


def seconds_since_start(context: ModelContext) -> float:
    """Return how long this start has taken; 0 if its beginning was not observed."""
    began = started_at(context)
    return round(context.now - began, 3) if began is not None else 0.0
