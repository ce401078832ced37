"""How long a start may take without progress, and what follows one that fails: the next attempt, or that it is given up. Pure."""

import math
from collections.abc import Iterator

from flexinfer import backends
from flexinfer.api import conditions, durations
from flexinfer.api.conditions import clause
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import engine_end, status
from flexinfer.launcher.effects import Action, Purpose, Stop
from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.launcher.view import ModelContext, ModelView

ATTEMPTS = 6
"""Pods in a row that may fail before the start is given up, unless the Model always runs."""
IMAGE_SECONDS = 120.0
"""How long an image may fail to be pulled: a kubelet tries some four times in it."""
_FIRST_BACK_OFF, _LONGEST_BACK_OFF = 1.0, 60.0
_REQUESTED_BACK_OFF = 5.0
"""The longest back-off of a Model that always runs while a request waits for it."""
_NOT_STARTABLE = (Reason.IMAGE_PULL_FAILED, Reason.ENGINE_NOT_INSTALLED)


def stage_seconds(model: Model, settings: LaunchSettings, reason: str) -> float:
    """Return how long a stage of loading may last, in seconds; what has no image or program is given up sooner."""
    if reason in _NOT_STARTABLE:
        return min(settings.loading_seconds, IMAGE_SECONDS)
    backend = backends.find(model.spec.backend)
    return max(settings.loading_seconds, backend.loading_seconds if backend is not None else 0)


def failed(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """Yield what follows a Pod that will never run again: report it, then delete it; the next one is created after the back-off."""
    view = context.view
    if view.ready.failed:
        yield Stop(model=view.model, pods=context.pods, purpose=Purpose.CLEAR, cause="its Pod failed")
        return
    model = view.model
    yield from back_off_after(context, _cause(model, pod), engine_end.remedy(model, pod))


def _cause(model: Model, pod: PodFacts) -> str:
    code = f" with exit code {pod.exit_code}" if pod.exit_code is not None else ""
    by_engine = bool(pod.reason) and pod.last.partition(": ")[0] == pod.reason
    last = clause(engine_end.cause(model, pod)) if by_engine else ""
    return f"Pod failed{code} ({last or engine_end.joined(pod.reason or pod.phase, pod.message)})"


def back_off_after(context: ModelContext, cause: str, helps: str = "") -> Iterator[Action]:
    """Report a failed attempt: when the next one is, or that the start is given up."""
    view = context.view
    failures = view.backend.restarts + 1 if view.ready.loading else 1
    reason, message = after_failure(cause, failures, always_on=view.always_on, helps=helps)
    backend = status.at_stage(view, "", failures)
    yield from status.write_not_ready(context, reason, message, backend, status.RUN_GATES)


def after_failure(cause: str, failures: int, *, always_on: bool, helps: str = "") -> tuple[Reason, str]:
    """Return reason and message after so many attempts in a row failed: the next attempt, or that the start is given up."""
    if failures >= ATTEMPTS and not always_on:
        message = f"{cause}, {failures} times in a row{helps}; a request or a change of the spec retries"
        return Reason.LOADING_TIMEOUT, message
    seconds = back_off(failures)
    attempts = "" if always_on else f" of {ATTEMPTS}"
    sooner = (
        f"; a request retries within {_REQUESTED_BACK_OFF:g}s"
        if always_on and seconds > _REQUESTED_BACK_OFF
        else ""
    )
    return (
        Reason.BACK_OFF,
        f"{cause}{helps}; back-off: attempt {failures + 1}{attempts} in {seconds:g}s{sooner}",
    )


def pauses_between_turns(view: ModelView) -> bool:
    """Return whether the next Pod is created only after the back-off although Ready is Stopped: the failed one has ended its turn."""
    return bool(view.turn and view.backend.restarts) and view.ready.reason == Reason.STOPPED


def next_attempt(context: ModelContext) -> float:
    """Return when the next Pod may be created; a request that waits for a Model that always runs is not kept waiting for long."""
    view, seconds = context.view, back_off(context.view.backend.restarts)
    if view.always_on and any(a.waiting for a in context.state.activity_of(view.model).values()):
        seconds = min(seconds, _REQUESTED_BACK_OFF)
    return context.since(conditions.READY) + seconds


def refused_until(context: ModelContext) -> float:
    """Return how long a Pod may be rejected before the start is given up; without end for a Model that always runs."""
    view = context.view
    if view.always_on:
        return math.inf
    return context.since(conditions.READY) + stage_seconds(view.model, context.settings, view.ready.reason)


def give_up_refused(context: ModelContext) -> Iterator[Action]:
    """Yield that a start is given up whose Pod the API server rejected up to the deadline."""
    view = context.view
    seconds = stage_seconds(view.model, context.settings, view.ready.reason)
    message = f"Pod rejected for {seconds:g}s: {view.ready.message}"
    yield from status.write_not_ready(context, Reason.LOADING_TIMEOUT, message, gates=status.RUN_GATES)


def next_creation(context: ModelContext) -> float:
    """Return when a rejected Pod may be created again."""
    rejections = context.rejections
    return rejections.at + back_off(rejections.count) if rejections is not None else context.now


def back_off(failures: int) -> float:
    """Return how long to wait after so many failures in a row, in seconds."""
    return durations.back_off(_FIRST_BACK_OFF, max(0, failures - 1), _LONGEST_BACK_OFF)
