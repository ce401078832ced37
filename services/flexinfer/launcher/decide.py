"""What an engine needs next, and what to say of it. Pure: what is known and what time it is, in; actions, out.

For each Model, the first that applies:
  (1) it must not run: drain, then stop; at rest, say so once a generation;
  (2) it has no Pod: start it if every gate is open, after the back-off if its last Pod failed;
  (3) its Pod still waits for its turn, or belongs to a former one: start;
  (4) its Pod failed, is being deleted, or must make room for a newer template: clear the way;
  (5) its node is silent: say so, touch nothing;
  (6) its engine answers: Ready; else it loads, against a deadline that progress extends.
"""

from collections.abc import Iterator
from typing import Any, TypeAlias

import msgspec

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.conditions import Condition
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.status import ReadyStatus
from flexinfer.events.workload import GroupLease, PodFacts
from flexinfer.launcher import loading, rules
from flexinfer.launcher.manifests import LaunchSettings, endpoint
from flexinfer.launcher.memory import Memory, Probe
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import HEARTBEAT_GAP, ObservedState

PROXY_QUIET_SECONDS = 1.0
"""A proxy tells of its traffic at most once a second, so a heartbeat this long after a stop knows of it."""
RUN_GATES = (conditions.WANTED, conditions.GRANTED)
STOP, RENEW, CLEAR = "stop", "renew", "clear"


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Bring up the Pod of a turn and open its gate."""

    model: Model
    turn: int

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """Delete the Pods known by now; `purpose` says what must still hold when it is done.

    `stop`: nothing may run, and `Stopped` is said. `renew`: another template takes its place. `clear`: what failed is put away, and what was said
    of it stands.
    """

    model: Model
    pods: tuple[PodFacts, ...]
    purpose: str
    why: str
    force: bool = False

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key


class Expose(msgspec.Struct, frozen=True):
    """Make the Model's Service what its spec says, then write the report."""

    report: WriteStatus

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.report.key


class Announce(msgspec.Struct, frozen=True):
    """Write Ready=True, then tell the proxies at once."""

    report: WriteStatus

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.report.key


Effect: TypeAlias = Start | Stop | Expose | Announce
Action: TypeAlias = Effect | WriteStatus | RequeueAt


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One Model and everything that its decision rests on."""

    model: Model
    state: ObservedState
    settings: LaunchSettings
    now: float
    leases: tuple[GroupLease, ...]
    pods: tuple[PodFacts, ...]
    probe: Probe | None

    @property
    def ready(self) -> Condition | None:
        """What was last said."""
        return self.model.condition(conditions.READY)

    @property
    def reason(self) -> str:
        """The reason last said, while it is not True."""
        return self.ready.reason if self.ready is not None and not self.ready.true else ""

    @property
    def told(self) -> BackendStatus:
        """The backend as status holds it."""
        return self.model.status.backend or BackendStatus()

    def since(self, kind: str) -> float:
        """Return when a verdict last changed, as seen from here."""
        return self.state.changed_at.get((self.model.key, kind), self.now)


def decide(
    state: ObservedState, memory: Memory, now: float, *, settings: LaunchSettings | None = None
) -> Iterator[Action]:
    """Yield what every Model's engine needs next."""
    for key in sorted(state.models):
        model = state.models[key]
        pods = rules.pods_of(model, state, memory)
        probe = memory.probe(model)
        yield from _one(
            Case(
                model=model,
                state=state,
                settings=settings or LaunchSettings(),
                now=now,
                leases=rules.leases_of(model, state),
                pods=pods,
                probe=probe if pods and probe is not None and probe.answer.pod_uid == pods[-1].uid else None,
            )
        )


def _one(case: Case) -> Iterator[Action]:
    why = rules.stop_reason(case.model, case.leases)
    if why:
        yield from _down(case, why, STOP)
    elif case.pods:
        yield from _present(case, case.pods[-1])
    else:
        yield from _absent(case)


# --- nothing may run


def _down(case: Case, why: str, purpose: str) -> Iterator[Action]:
    """Yield the next step of a stop: say that it drains, wait for the requests under way, delete."""
    model, owed = case.model, rules.releasing(case.model, case.leases)
    finalizer = model.deleting and RUNNING_FINALIZER in model.metadata.finalizers
    returned = not owed or (case.reason == Reason.STOPPED and case.told.turn == owed)
    resting = case.ready is None or case.reason in rules.AT_REST
    if not case.pods and resting and returned and not finalizer:
        if not model.deleting:
            yield from _rest(case)
        return
    if case.pods and not rules.node_gone(model):
        if case.ready is not None and case.ready.true:
            yield from _say(case, conditions.FALSE, Reason.DRAINING, f"requests under way may finish: {why}")
            return
        until = _draining_until(case) if case.reason == Reason.DRAINING else None
        if until is not None:
            yield RequeueAt(until)
            return
    yield Stop(model=model, pods=case.pods, purpose=purpose, why=why, force=rules.node_gone(model))


def _draining_until(case: Case) -> float | None:
    """Return when to look at the drain again at the latest, or None once nothing is under way."""
    began = case.since(conditions.READY)
    deadline = began + case.settings.drain_seconds
    if case.now >= deadline:
        return None
    if case.state.connected_since is None or _engine_busy(case, began):
        return deadline
    live = [
        (name, proxy)
        for name, proxy in case.state.proxies.items()
        if not proxy.final and case.now - proxy.last <= HEARTBEAT_GAP
    ]
    return None if all(_let_go(case, name, proxy.last, began) for name, proxy in live) else deadline


def _let_go(case: Case, proxy: str, heard: float, began: float) -> bool:
    """Tell whether a proxy has said, since the stop was published, that it has nothing under way."""
    said = case.state.activity.get((case.model.key, proxy))
    ours = said if said is not None and said.uid == case.model.uid else None
    if ours is not None and ours.in_flight:
        return False
    return (ours is not None and ours.at >= began) or heard >= began + PROXY_QUIET_SECONDS


def _engine_busy(case: Case, began: float) -> bool:
    """Tell whether the engine itself still works, or has not been asked since."""
    backend = backends.find(case.model.spec.backend)
    if backend is None or not backend.in_flight or case.probe is None:
        return False
    return case.probe.at < began or bool(case.probe.answer.in_flight)


def _rest(case: Case) -> Iterator[Action]:
    """Say once a generation that nothing runs; an idle Model is not written about again."""
    model = case.model
    waits = actions.first_write_due(model, conditions.READY, case.state.first_seen.get(model.uid), case.now)
    if waits is not None:
        yield RequeueAt(waits)
        return
    if case.ready is None:
        yield from _say(case, conditions.FALSE, Reason.NOT_STARTED, "the engine has not been started")
    elif case.reason == Reason.LOADING_TIMEOUT and not rules.failed_for_good(model):
        yield from _say(
            case, conditions.FALSE, Reason.NOT_STARTED, "the engine of this spec has not been started"
        )
    else:
        yield from _say(case, conditions.FALSE, case.reason, case.ready.message, turn=case.told.turn)


# --- it may run


def _absent(case: Case) -> Iterator[Action]:
    """Yield what a Model without a Pod needs."""
    model = case.model
    if not rules.open_gates(model):
        if case.ready is None or case.reason in rules.AT_REST:
            yield from _rest(case)
        else:
            yield from _say(
                case, conditions.FALSE, Reason.NOT_STARTED, f"its Pod is gone, and {rules.closed_gate(model)}"
            )
    elif case.ready is not None and case.ready.status != conditions.FALSE:
        yield from _say(
            case, conditions.FALSE, Reason.RESTARTING, "its Pod is gone; another is started", gates=RUN_GATES
        )
    elif rules.failed_for_good(model):
        if case.since(conditions.WANTED) > case.since(conditions.READY):
            yield from _say(
                case,
                conditions.FALSE,
                Reason.STARTING,
                "another start was asked for",
                gates=RUN_GATES,
                restarts=0,
            )
    elif case.reason == Reason.BACK_OFF and case.now < (
        until := loading.next_try(case.told, case.since(conditions.READY))
    ):
        yield RequeueAt(until)
    else:
        yield Start(model=model, turn=rules.turn_of(model))


def _present(case: Case, pod: PodFacts) -> Iterator[Action]:
    """Yield what a Model with a Pod needs."""
    model = case.model
    opened = rules.open_gates(model)
    node = case.state.nodes.get(pod.node)
    renewal = rules.renewal(model, pod, case.settings)
    if pod.gated:
        if opened:
            yield Start(model=model, turn=rules.turn_of(model))
    elif pod.deleting:
        yield from _say(
            case, conditions.FALSE, Reason.RESTARTING, "its Pod is being deleted; another follows", stage=""
        )
    elif pod.ended or rules.failed_for_good(model):
        yield from _failed(case, pod)
    elif node is not None and node.ready != conditions.TRUE:
        yield from _say(
            case,
            conditions.UNKNOWN,
            Reason.NODE_UNREACHABLE,
            f"node {pod.node} does not answer; the engine may or may not run, so nothing is routed to it",
        )
    elif renewal:
        yield from _down(case, renewal, RENEW)
    elif case.probe is not None and case.probe.answer.healthy:
        yield from _answering(case, pod)
    else:
        yield from _silent(case, pod)


def _failed(case: Case, pod: PodFacts) -> Iterator[Action]:
    """Yield how a Pod that will never run again makes room for the next try."""
    if case.reason in (Reason.BACK_OFF, Reason.LOADING_TIMEOUT):
        yield Stop(model=case.model, pods=case.pods, purpose=CLEAR, why="its Pod failed")
        return
    tries = case.told.restarts + 1 if case.reason in rules.LOADING else 1
    reason, message = loading.after_failure(pod, tries)
    yield from _say(case, conditions.FALSE, reason, message, restarts=tries, gates=RUN_GATES)


def _answering(case: Case, pod: PodFacts) -> Iterator[Action]:
    """Yield Ready, of the newer spec or of the older one while that is all that may run."""
    model, ready = case.model, case.ready
    address = loading.address(model, pod)
    served = ready is not None and ready.true and case.told.address == address
    reason, message = Reason.READY, f"the engine answers at {address}"
    if not rules.open_gates(model):
        if served and ready is not None and ready.observed_generation == model.metadata.generation:
            return
        closed = rules.closed_gate(model)
        if served and not loading.outdated(model, pod, case.settings):
            return
        reason, message = Reason.SERVING_OLDER_SPEC, f"the engine answers with the former spec; {closed}"
    loaded = case.reason in rules.LOADING or not case.told.load_seconds
    seconds = (
        loading.seconds_since_start(case.state, model, case.now)
        if loaded and not served
        else case.told.load_seconds
    )
    yield from _say(
        case,
        conditions.TRUE,
        reason,
        message,
        gates=RUN_GATES,
        address=address,
        seconds=seconds,
        restarts=pod.restarts,
    )


def _silent(case: Case, pod: PodFacts) -> Iterator[Action]:
    """Yield how far an engine that does not answer has come, or that its time is over."""
    model, ready = case.model, case.ready
    unasked = case.probe is None or (not case.probe.answer.detail and not case.probe.answer.healthy)
    if ready is not None and ready.true and unasked and case.told.address == loading.address(model, pod):
        return
    verdict = loading.stage(pod, case.reason, ready, case.probe)
    if verdict.stage == loading.SCHEDULING and case.now < (bound_by := _bound_by(case)):
        yield RequeueAt(bound_by)
        return
    waited = loading.patience(model, case.settings, verdict.reason)
    deadline = case.since(conditions.READY) + waited
    if case.reason == verdict.reason and rules.open_gates(model):
        if case.now >= deadline:
            yield from _say(
                case,
                conditions.FALSE,
                Reason.LOADING_TIMEOUT,
                f"no progress for {waited:g} s: {verdict.message}; see `kubectl logs {pod.name}`",
                gates=RUN_GATES,
                stage=verdict.stage,
                restarts=pod.restarts,
            )
            return
        yield RequeueAt(deadline)
    restarts = max(pod.restarts, case.told.restarts if case.reason in rules.LOADING else 0)
    yield from _say(
        case,
        conditions.FALSE,
        verdict.reason,
        verdict.message,
        gates=RUN_GATES,
        stage=verdict.stage,
        restarts=restarts,
    )


def _bound_by(case: Case) -> float:
    """Return when a Pod that has no node yet is worth a word: a start that was spoken of is spoken of at once."""
    began = loading.started_at(case.state, case.model)
    return case.now if case.reason in rules.LOADING or began is None else began + loading.BINDING_SECONDS


# --- saying it


def _say(case: Case, status: str, reason: str, message: str, **fields: Any) -> Iterator[Action]:
    """Yield the report, unless the Model says so already; the first of a generation goes with the Service."""
    model = case.model
    gates = fields.pop("gates", ())
    accepted = model.is_true(conditions.ACCEPTED)
    told = actions.write_if_changed(
        model,
        ReadyStatus(
            condition=actions.condition(model, conditions.READY, status, reason, message),
            endpoint=endpoint(model, case.settings) if accepted else model.status.endpoint,
            backend=BackendStatus(
                address=fields.get("address", ""),
                loading_stage=fields.get("stage", ""),
                load_seconds=fields.get("seconds", case.told.load_seconds),
                restarts=fields.get("restarts", case.told.restarts),
                turn=fields.get("turn", 0),
            ),
        ),
        gates,
    )
    if told is None:
        return
    fresh = case.ready is None or case.ready.observed_generation != model.metadata.generation
    if accepted and (fresh or not model.status.endpoint):
        yield Expose(told)
    elif status == conditions.TRUE and not (case.ready is not None and case.ready.true):
        yield Announce(told)
    else:
        yield told
