"""What an engine needs next, and what Ready says of it. Pure: the observed state and the time in, actions out.

For each Model, the first that applies:
  (1) it must not run: drain, then stop (`drain`); at rest, written once a generation;
  (2) it has no Pod: start it if every gate is open, after the back-off if its last Pod failed;
  (3) its Pod still has the gate of its turn: start, which also continues what a predecessor began;
  (4) its node is NotReady: Ready=Unknown, and nothing is touched;
  (5) its Pod is terminating: wait for it;
  (6) its Pod failed: report it, delete it, try again after a back-off (`loading`);
  (7) its Pod is of another turn or template: drain, then stop it to make room (`drain`);
  (8) its engine answers: Ready;
  (9) it loads, with a deadline that progress extends (`loading`).
"""

import math
from collections.abc import Iterator

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import drain, loading, retry, status, unresponsive
from flexinfer.launcher.effects import Action, Protect, Purpose, Relabel, RestoreService, Start, Stop
from flexinfer.launcher.manifests import STOP_SECONDS, LaunchSettings, engine_pod, service, template
from flexinfer.launcher.memory import Memory
from flexinfer.launcher.view import ModelContext, context_of
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt
from flexinfer.state.observed import ObservedState

_SAID_AFTER_SECONDS = 1.0
"""How long a check of free memory may take before Ready says that it is waited for."""


def decide(
    state: ObservedState, memory: Memory, key: str, now: float, *, settings: LaunchSettings
) -> Iterator[Action]:
    """Yield what a Model's engine needs next; `now` is monotonic seconds."""
    model = state.models.get(key)
    if model is not None:
        context = context_of(model, state, memory, now, settings)
        if not model.deleting:
            yield from _restore(context, service_drifted=model.uid in memory.drifted)
        yield from _next(context)


def _restore(context: ModelContext, *, service_drifted: bool) -> Iterator[Action]:
    """Restore what another client removed or edited: the finalizer of a Model whose engine may run, labels of its Pod, and its Service."""
    model = context.view.model
    engine = any(not (pod.gated or pod.ended or pod.deleting) for pod in context.pods)
    if engine and RUNNING_FINALIZER not in model.metadata.finalizers:
        yield Protect(model=model)
    yield from (Relabel(model=model, pod=pod) for pod in context.pods if pod.unlabelled and not pod.deleting)
    if service_drifted and context.view.accepted.true:
        yield RestoreService(model=model, service=service(model, context.settings))


def _next(context: ModelContext) -> Iterator[Action]:
    """Yield what one Model needs: the list at the head of this module."""
    pod = context.pod
    if cause := context.view.stop_cause:
        yield from _stop(context, cause)
    elif pod is None:
        yield from _without_pod(context)
    else:
        yield from _with_pod(context, pod)


def _stop(context: ModelContext, cause: str) -> Iterator[Action]:
    """(1) Nothing may run."""
    if not drain.at_rest(context):
        yield from drain.stop(context, cause, Purpose.STOP)
    elif not context.view.model.deleting:
        yield from _at_rest(context)


def _at_rest(context: ModelContext) -> Iterator[Action]:
    """Write once a generation that no engine runs; nothing else is written about a Model at rest.

    That is after Accepted has judged the generation, since what its Service holds is written with it.
    """
    view, ready = context.view, context.view.ready
    if ready.written and not (ready.current or view.accepted.true or view.accepted.false):
        return
    first_seen_at = context.state.first_seen.get(view.model.uid)
    due = actions.first_write_due(view.model, conditions.READY, first_seen_at, context.now)
    if due is not None:
        yield RequeueAt(due)
    elif not ready.written or (ready.reason == Reason.LOADING_TIMEOUT and not ready.given_up):
        yield from status.write_not_ready(context, Reason.NOT_STARTED, status.NOT_STARTED)
    else:
        yield from status.write_not_ready(context, ready.reason, ready.message)


def _without_pod(context: ModelContext) -> Iterator[Action]:
    """(2) It may run, and has no Pod."""
    view = context.view
    if view.turn_pod and view.groups_known:
        yield from _turn_is_over(context)
    elif not view.gates_open:
        yield from _wait_for_gates(context)
    elif view.ready.written and view.ready.status != conditions.FALSE:
        message = "Pod was deleted; creating a replacement"
        yield from status.write_not_ready(context, Reason.RESTARTING, message, gates=status.RUN_GATES)
    elif view.ready.failed:
        yield from _start_again(context)
    elif view.ready.reason == Reason.CREATE_REFUSED:
        yield from _refused(context)
    elif retry.pauses_between_turns(view) and context.now < (until := retry.next_attempt(context)):
        yield RequeueAt(until)
    elif not view.memory_checked:
        yield from _wait_for_memory(context)
    else:
        yield from _start(context)


def _wait_for_memory(context: ModelContext) -> Iterator[Action]:
    """Wait until the placer has checked the memory of the devices for this start; what takes long is said."""
    due = context.since(conditions.WANTED) + _SAID_AFTER_SECONDS
    if context.now < due:
        yield RequeueAt(due)
        return
    message = (
        "waiting until the placer has found room on its devices for this start (status.placement.checkedFor)"
    )
    yield from status.write_not_ready(context, Reason.NOT_STARTED, message)


def _turn_is_over(context: ModelContext) -> Iterator[Action]:
    """Report that the one Pod of the turn is gone, also during a download; a failure says so already. The arbiter releases the devices then."""
    ready = context.view.ready
    wanted_again = context.since(conditions.WANTED) > context.since(conditions.READY)
    again = ready.given_up and (context.view.always_on or wanted_again)
    if ready.reason != Reason.STOPPED and (again or not ready.failed):
        yield from status.write_not_ready(context, Reason.STOPPED, status.TURN_OVER, gates=status.RUN_GATES)


def _wait_for_gates(context: ModelContext) -> Iterator[Action]:
    if context.view.ready.at_rest:
        yield from _at_rest(context)
    else:
        message = f"Pod was deleted; {status.NOT_STARTED}"
        yield from status.write_not_ready(context, Reason.NOT_STARTED, message)


def _start_again(context: ModelContext) -> Iterator[Action]:
    """Leave BackOff or LoadingTimeout for Starting when it is time: a Pod under either would be deleted as failed.

    After LoadingTimeout it is once Wanted has turned True after it, but at once for a Model that always runs.
    """
    view, failures = context.view, context.view.backend.restarts
    if view.ready.reason == Reason.BACK_OFF:
        until = retry.next_attempt(context)
        if context.now < until:
            yield RequeueAt(until)
            return
    elif view.always_on or context.since(conditions.WANTED) > context.since(conditions.READY):
        failures = 0
    else:
        return
    backend = status.at_stage(view, "", failures)
    message = "starting again after a failed start"
    yield from status.write_not_ready(context, Reason.STARTING, message, backend, status.RUN_GATES)


def _refused(context: ModelContext) -> Iterator[Action]:
    """Try again what the API server rejects, ever less often; the loading deadline ends it unless the Model always runs."""
    view = context.view
    if not view.ready.current:  # the deadline is that of the newer spec
        message = "starting with the newer spec"
        yield from status.write_not_ready(context, Reason.STARTING, message, gates=status.RUN_GATES)
        return
    deadline = retry.refused_until(context)
    if context.now >= deadline:
        yield from retry.give_up_refused(context)
        return
    retry_at = retry.next_creation(context)
    if context.now < retry_at:
        yield RequeueAt(min(retry_at, deadline))
        return
    if deadline < math.inf:
        yield RequeueAt(deadline)
    yield from _start(context)


def _start(context: ModelContext) -> Iterator[Action]:
    view = context.view
    pod_template = template(view.model, context.settings)
    if pod_template is None or view.moved:
        return
    # The Service is created with the first status of a generation; if its name was taken then, it is tried again here.
    again = view.ready.reason == Reason.NAME_TAKEN
    yield Start(
        model=view.model,
        turn=view.turn,
        pod=engine_pod(view.model, view.turn, pod_template),
        template=pod_template.digest,
        service=service(view.model, context.settings) if again else None,
    )


def _with_pod(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """(3) to (9): it may run, and has a Pod."""
    view = context.view
    node = context.state.nodes.get(pod.node)
    if pod.gated:
        yield from _gated(context, pod)
    elif node is not None and node.ready != conditions.TRUE and not (pod.ended or view.ready.failed):
        yield from _unreachable(context, pod)
    elif pod.deleting:
        yield from _terminating(context)
    elif pod.ended or view.ready.failed:
        yield from retry.failed(context, pod)
    elif renewal := drain.renewal_cause(view, pod, context.settings):
        yield from drain.stop(context, renewal, Purpose.RENEW)
    elif context.probe is not None and context.probe.answer.healthy:
        yield from _healthy(context, pod)
    else:
        yield from loading.load(context, pod)


def _gated(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """(3) Continue the start; what the API server rejects after the Pod was created, as its ResourceClaim, is tried again like a Pod.

    The one Pod of a turn that never opens, as one of other devices than the placement by now, is deleted, which ends its turn.
    """
    view = context.view
    if view.ready.given_up:
        yield from retry.failed(context, pod)
    elif cause := drain.unopened_cause(view, pod):
        yield from drain.stop(context, cause, Purpose.RENEW)
    elif view.gates_open and view.memory_checked:
        yield from _refused(context) if view.ready.reason == Reason.CREATE_REFUSED else _start(context)


def _unreachable(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """(4) Nothing ends there, and nothing is started elsewhere while its engine may run: the one wait without a deadline."""
    state = f"Pod {pod.name} cannot be deleted" if pod.deleting else "engine state unknown"
    message = (
        f"node {pod.node} is not ready; {state}, no requests are routed to it; "
        f"bring the node back, or give it up: {status.node_exits(pod.node)}"
    )
    yield from status.write_unknown(
        context, Reason.NODE_UNREACHABLE, message, unresponsive.remembered_stage(context.view, pod)
    )


def _terminating(context: ModelContext) -> Iterator[Action]:
    """(5) Wait for it; a failure, or a stop that does not end, stays reported meanwhile."""
    view, ready = context.view, context.view.ready
    if ready.reason == Reason.STOPPING:
        return
    if ready.reason != Reason.RESTARTING and not ready.failed:
        message = "Pod is terminating; a replacement is created once it is deleted"
        yield from status.write_not_ready(context, Reason.RESTARTING, message)
        return
    overdue_at = context.since(conditions.READY) + STOP_SECONDS
    if context.now < overdue_at:
        yield RequeueAt(overdue_at)
        return
    yield Stop(model=view.model, pods=context.pods, purpose=Purpose.AWAIT, cause="its Pod does not terminate")


def _healthy(context: ModelContext, pod: PodFacts) -> Iterator[Action]:
    """(8) Ready with the current spec, or with the previous one while that is all that may run."""
    view = context.view
    address = loading.address(view.model, pod)
    is_serving = view.ready.true and view.backend.address == address
    if not view.gates_open:
        # While the conditions of a newer generation arrive one by one, an unchanged template is not written about.
        if is_serving and (view.ready.current or not _outdated(context, pod)):
            return
        reason = Reason.SERVING_OLDER_SPEC
        message = (
            f"engine healthy at {address} with generation {pod.generation} of the spec; "
            "a newer one starts once every condition before Ready is True"
        )
    else:
        reason, message = Reason.READY, f"engine healthy at {address}"
    seconds = _load_seconds(context, served=is_serving or unresponsive.runs_as_ready(view, pod))
    note = f" (loaded in {seconds:g}s)" if seconds and reason == Reason.READY else ""
    backend = status.healthy(view, address, seconds, pod.restarts)
    yield from status.write_ready(context, reason, message + note, backend)


def _outdated(context: ModelContext, pod: PodFacts) -> bool:
    """Return whether the running engine is not what the newer spec asks for; False while Accepted is Unknown."""
    view = context.view
    if not view.accepted.true:
        return view.accepted.false
    pod_template = template(view.model, context.settings)
    return pod_template is None or pod_template.digest != pod.template


def _load_seconds(context: ModelContext, *, served: bool) -> float:
    """Return how long the engine took to load: measured when it becomes Ready after a start, else as it was measured."""
    load_seconds = context.view.backend.load_seconds
    if served or (load_seconds and not context.view.ready.loading):
        return load_seconds
    return loading.seconds_since_start(context) or load_seconds
