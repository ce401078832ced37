"""How far a start has come, how long it may stay there, and what follows a failure. Pure."""

from typing import NamedTuple

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import rules
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.launcher.memory import Probe
from flexinfer.state.observed import ObservedState

TRIES = 5
"""Pods in a row that may fail before the start is given up."""
IMAGE_SECONDS = 120.0
"""A node tries to get an image some four times in it."""
BINDING_SECONDS = 0.25
"""A scheduler takes some 10 ms for a Pod that fits: one that is bound within this long is not said to wait, which saves a wake a write."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0
_NO_IMAGE = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_ORDINARY = frozenset({"ContainerCreating", "PodInitializing"})
"""What every container waits for: no news without a message."""
_WAS_GATED = "SchedulingGated"
"""What a Pod's condition says on, for a moment, after its gate has opened."""
SCHEDULING, IMAGE, WEIGHTS, RESTART = "Scheduling", "Image", "Weights", "Restart"


class Stage(NamedTuple):
    """A stage of loading, and how it is said."""

    reason: str
    message: str
    stage: str


def stage(pod: PodFacts, reason: str, ready: Condition | None, probe: Probe | None) -> Stage:
    """Return how far a Pod whose engine does not answer has come.

    A restart is no progress: who restarted once says so until it answers, and the deadline runs on. The same for an image that cannot be had.
    """
    if pod.reason in _NO_IMAGE or (reason == Reason.IMAGE_PULL_FAILED and not pod.running):
        told = f"{pod.reason}: {pod.message}" if pod.reason in _NO_IMAGE else ready.message if ready else ""
        return Stage(Reason.IMAGE_PULL_FAILED, told, IMAGE)
    answered = ready is not None and ready.true
    if answered or pod.restarts or reason == Reason.RESTARTING:
        return Stage(Reason.RESTARTING, _restarting(pod, probe), RESTART)
    if pod.running:
        return Stage(Reason.LOADING, f"the engine loads on node {pod.node}", WEIGHTS)
    if not pod.node:
        why = f": {pod.message}" if pod.message and pod.reason != _WAS_GATED else ""
        return Stage(Reason.STARTING, f"its Pod waits for the scheduler{why}", SCHEDULING)
    told = "" if pod.reason in _ORDINARY and not pod.message else pod.reason
    why = f" ({told}: {pod.message})".replace(": )", ")") if told else ""
    return Stage(Reason.STARTING, f"its Pod starts on node {pod.node}{why}", IMAGE)


def _restarting(pod: PodFacts, probe: Probe | None) -> str:
    if pod.exit_code is None:
        detail = f" ({probe.answer.detail})" if probe is not None and probe.answer.detail else ""
        return f"the engine stopped answering{detail}"
    told = pod.last or pod.message
    why = f": {told}" if told else ""
    return f"the engine ended with exit code {pod.exit_code} and is started again, {pod.restarts} times so far{why}{_remedy(pod)}"


def _remedy(pod: PodFacts) -> str:
    """Return what helps an engine that had no memory left, or that this node cannot run, or nothing."""
    if pod.last.startswith("OOMKilled"):
        return "; it needs more memory than it may have: raise spec.resources.limits.memory"
    if "exec format error" in pod.last:
        return f"; its image is built for another architecture than that of node {pod.node}"
    return ""


def address(model: Model, pod: PodFacts) -> str:
    """Return host:port of a Pod's engine."""
    backend = backends.find(model.spec.backend)
    return f"{pod.ip}:{backend.port}" if backend is not None and pod.ip else ""


def outdated(model: Model, pod: PodFacts, settings: LaunchSettings) -> bool:
    """Tell whether the running engine is not what the newer spec asks for; a spec that nobody has judged yet says nothing."""
    if not model.is_true(conditions.ACCEPTED):
        return model.condition_status(conditions.ACCEPTED) == conditions.FALSE
    made = template(model, settings)
    return made is None or made.digest != pod.template


def patience(model: Model, settings: LaunchSettings, reason: str) -> float:
    """Return how long a stage of loading may last, in seconds; an image that cannot be had is not worth the whole of it."""
    if reason == Reason.IMAGE_PULL_FAILED:
        return min(settings.loading_seconds, IMAGE_SECONDS)
    backend = backends.find(model.spec.backend)
    return max(settings.loading_seconds, backend.loading_seconds if backend is not None else 0)


def started_at(state: ObservedState, model: Model) -> float | None:
    """Return when the last gate opened, or the former process died; None when nobody saw it."""
    ready = model.condition(conditions.READY)
    restarted = ready is not None and ready.reason == Reason.RESTARTING
    kinds = (conditions.READY,) if restarted else rules.GATES
    since = [state.changed_at[model.key, kind] for kind in kinds if (model.key, kind) in state.changed_at]
    return max(since, default=None)


def seconds_since_start(state: ObservedState, model: Model, now: float) -> float:
    """Return how long this start has taken; 0 when nobody saw its beginning."""
    began = started_at(state, model)
    return round(now - began, 3) if began is not None else 0.0


def after_failure(pod: PodFacts, tries: int) -> tuple[str, str]:
    """Return what is said of a Pod that failed: wait for the next try, or give up."""
    code = f" with exit code {pod.exit_code}" if pod.exit_code is not None else ""
    why = f"its Pod failed{code} ({pod.reason or pod.phase}{': ' + pod.message if pod.message else ''})"
    if tries > TRIES:
        return (
            Reason.LOADING_TIMEOUT,
            f"{why}, {tries} times in a row; a change of the spec or a request tries again",
        )
    return Reason.BACK_OFF, f"{why}; try {tries + 1} of {TRIES + 1} follows in {_pause(tries):g} s"


def next_try(told: BackendStatus, failed: float) -> float:
    """Return when the next Pod may be made."""
    return failed + _pause(told.restarts)


def _pause(tries: int) -> float:
    return float(min(_FIRST_PAUSE * 2 ** max(0, tries - 1), _LONGEST_PAUSE))
