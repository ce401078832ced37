"""A Model as the launcher sees it: its conditions read once into values, and beside them what else was observed of it. Pure.

Decisions ask a `ModelContext`; effects make a `ModelView` of the Model that they have just read and ask it the same questions.
"""

from collections.abc import Iterable

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.api.services import SERVICES
from flexinfer.api.sharedgroup import GRANTED, RELEASING, SharedGroup
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import LaunchSettings
from flexinfer.launcher.memory import Memory, Probe, Progress, Rejections, pods_of
from flexinfer.state.observed import ObservedState

GATES = SERVICES["launcher"].gates
"""The condition types that must be True before an engine starts."""
RESTART = "Restart"
"""`status.backend.loadingStage` of an engine that is restarted in its Pod; with BackOff, a failed Pod has none."""
_NOT_HELD = ("Idle", "Queued")
"""`status.sharedGroup.state` of a Model that holds no device."""
_AT_REST = reasons.AT_REST | reasons.FINAL_FOR[conditions.READY]
"""Reasons of Ready with which no engine runs, and none is started before something changes."""


class ConditionView(msgspec.Struct, frozen=True):
    """Another component's condition as it counts now: of an older generation it is Unknown, without a reason."""

    status: str = conditions.UNKNOWN
    reason: str = ""

    @property
    def true(self) -> bool:
        """Whether it is True at the current generation."""
        return self.status == conditions.TRUE

    @property
    def false(self) -> bool:
        """Whether it is False at the current generation."""
        return self.status == conditions.FALSE


class ReadyView(msgspec.Struct, frozen=True):
    """The launcher's own condition, of whatever generation: a running engine keeps serving."""

    status: str = ""  # empty: never written
    reason: str = ""  # why it is not True; empty while it is
    message: str = ""
    current: bool = False  # of the current generation
    older_spec: bool = False  # True, with the reason ServingOlderSpec
    in_pod: bool = False  # BackOff of the node, which restarts the engine in its Pod

    @property
    def written(self) -> bool:
        """Whether it was ever written."""
        return bool(self.status)

    @property
    def true(self) -> bool:
        """Whether requests are routed to the engine."""
        return self.status == conditions.TRUE

    @property
    def serves_spec(self) -> bool:
        """Whether the engine serves the current spec."""
        return self.true and self.current and not self.older_spec

    @property
    def unknown(self) -> bool:
        """Whether the engine's node is silent: no request is routed to it, and those that it had may continue."""
        return self.status == conditions.UNKNOWN

    @property
    def at_rest(self) -> bool:
        """Whether it says that no engine runs and none is being started."""
        return not self.written or self.reason in _AT_REST

    @property
    def loading(self) -> bool:
        """Whether it says that the engine is being started."""
        return self.reason in reasons.LOADING

    @property
    def draining(self) -> bool:
        """Whether a stop was published and in-flight requests complete."""
        return self.reason == Reason.DRAINING

    @property
    def failed(self) -> bool:
        """Whether it says that the Pod failed, so that the Pod is deleted before another attempt or for a rest."""
        return (self.reason == Reason.BACK_OFF and not self.in_pod) or self.given_up

    @property
    def restarting(self) -> bool:
        """Whether it says that the engine is restarted in its Pod, at once or after the node's back-off."""
        return self.reason == Reason.RESTARTING or self.in_pod

    @property
    def given_up(self) -> bool:
        """Whether the start of the current generation was given up."""
        timeout = self.status == conditions.FALSE and self.reason == Reason.LOADING_TIMEOUT
        return timeout and self.current


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """One Model, its conditions, and its shared groups: that of its spec, and one that it is leaving."""

    model: Model
    groups: tuple[SharedGroup, ...]
    accepted: ConditionView
    placed: ConditionView
    cached: ConditionView
    wanted: ConditionView
    granted: ConditionView
    ready: ReadyView

    @property
    def gates_open(self) -> bool:
        """Whether everything that a start needs is True at the current generation."""
        gates = (self.accepted, self.placed, self.cached, self.wanted, self.granted)
        return not self.model.deleting and self.groups_known and all(gate.true for gate in gates)

    @property
    def memory_checked(self) -> bool:
        """Whether the placer has found room on its devices for this very start; in a group, the turn says so."""
        return not self.model.spec.devices or bool(self.model.spec.group) or self.model.checked

    @property
    def groups_known(self) -> bool:
        """Whether the arbiter has looked at every shared group of the Model: before that nothing is started or stopped in it."""
        ready_groups = {group.name for group in self.groups if group.initialized}
        return all(name in ready_groups for name in group_names(self.model))

    @property
    def turn(self) -> int:
        """The turn that a start needs; 0 for a Model in no shared group."""
        group = self.model.status.shared_group
        return group.turn if self.model.spec.group and group is not None else 0

    @property
    def release_turn(self) -> int:
        """The turn that it is asked to give back; 0 if none."""
        uid = self.model.uid
        holders = (group.holder(uid) for group in self.groups if group.initialized)
        return next((h.turn for h in holders if h is not None and h.step == RELEASING), 0)

    def has_returned(self, turn: int) -> bool:
        """Return whether Ready reports that the engine of a turn that was to be released has stopped."""
        return self.ready.reason == Reason.STOPPED and (self.backend.turn, self.backend.pod_uid) == (turn, "")

    @property
    def turn_pod(self) -> str:
        """The uid of the one Pod that the present turn has opened; empty before that, and in no shared group."""
        return self.backend.pod_uid if self.turn and self.backend.turn == self.turn else ""

    @property
    def held_turn(self) -> int | None:
        """The turn that its SharedGroup grants it, on the node and devices of its placement; None if none.

        A Model in no shared group needs no grant, and has turn 0.
        """
        group, uid = self.model.spec.group, self.model.uid
        if not group:
            return 0
        holders = (g.holder(uid) for g in self.groups if g.name == group and g.initialized)
        granted = (h for h in holders if h is not None and h.step == GRANTED)
        return next((h.turn for h in granted if h.is_on(self.model.status.placement)), None)

    @property
    def moved(self) -> bool:
        """Whether its present turn is on another node or device than its placement, or of less memory: nothing starts until it is released."""
        holders = [h for g in self.groups if g.initialized and (h := g.holder(self.model.uid)) is not None]
        return any(h.turn == self.turn and not h.covers(self.model.status.placement) for h in holders)

    @property
    def node_gone(self) -> bool:
        """Whether its node is given up: the Pod is then deleted without waiting for the node's kubelet."""
        return self.placed.false and self.placed.reason == Reason.NODE_GONE

    @property
    def always_on(self) -> bool:
        """Whether it always runs: its start is retried without end, and never given up."""
        return not self.model.spec.serverless.enabled

    @property
    def stop_cause(self) -> str:
        """Why no Pod of this Model may run; empty if it may.

        A newer spec that is refused does not stop the engine that serves the older one: `Wanted` is then False/NotAccepted.
        """
        if self.model.deleting:
            return "the Model is being deleted"
        if not self.groups_known:
            return ""
        for kind, gate in ((conditions.WANTED, self.wanted), (conditions.GRANTED, self.granted)):
            if gate.false and gate.reason != Reason.NOT_ACCEPTED:
                return f"{kind} is False"
        if self.node_gone:
            return "its node is gone"
        return f"turn {self.release_turn} is to be released" if self.release_turn else ""

    @property
    def backend(self) -> BackendStatus:
        """The backend as the status has it."""
        return self.model.status.backend or BackendStatus()


def group_names(model: Model) -> tuple[str, ...]:
    """Return the shared groups that this Model may hold devices of: its own first, then one that it is leaving."""
    membership = model.status.shared_group
    other_group = membership.group if membership is not None and membership.state not in _NOT_HELD else ""
    return tuple(name for name in dict.fromkeys((model.spec.group, other_group)) if name)


def view_of(model: Model, groups: Iterable[SharedGroup | None] = ()) -> ModelView:
    """Return a Model with its conditions read; `groups` are its shared groups, None for one that does not exist."""
    by_type = {condition.type: condition for condition in model.status.conditions}
    generation = model.metadata.generation

    def gate(kind: str) -> ConditionView:
        condition = by_type.get(kind)
        if condition is None or condition.observed_generation != generation:
            return ConditionView()
        return ConditionView(condition.status, condition.reason)

    return ModelView(
        model=model,
        groups=tuple(group for group in groups if group is not None),
        accepted=gate(conditions.ACCEPTED),
        placed=gate(conditions.PLACED),
        cached=gate(conditions.CACHED),
        wanted=gate(conditions.WANTED),
        granted=gate(conditions.GRANTED),
        ready=ready_of(model),
    )


def ready_of(model: Model) -> ReadyView:
    """Return the launcher's own condition of a Model, for what asks for nothing else of it."""
    condition, backend = model.condition(conditions.READY), model.status.backend or BackendStatus()
    if condition is None:
        return ReadyView()
    return ReadyView(
        status=condition.status,
        reason="" if condition.true else condition.reason,
        message=condition.message,
        current=condition.observed_generation == model.metadata.generation,
        older_spec=condition.true and condition.reason != Reason.READY,
        in_pod=condition.reason == Reason.BACK_OFF and backend.loading_stage == RESTART,
    )


class ModelContext(msgspec.Struct, frozen=True, kw_only=True):
    """One Model and everything else that its decision depends on; times are monotonic seconds."""

    view: ModelView
    state: ObservedState
    settings: LaunchSettings
    now: float
    pods: tuple[PodFacts, ...]  # its Pods, the newest last
    probe: Probe | None  # the last answer of the newest Pod's engine
    rejections: Rejections | None  # of its Pod by the API server, since its last Pod
    progress: Progress | None = None  # how far the newest Pod's engine has loaded

    @property
    def pod(self) -> PodFacts | None:
        """Its newest Pod."""
        return self.pods[-1] if self.pods else None

    def since(self, kind: str) -> float:
        """Return when the status or reason of a condition last changed, as observed here."""
        changed_at = self.state.changed(self.view.model, kind)
        return changed_at if changed_at is not None else self.now


def context_of(
    model: Model, state: ObservedState, memory: Memory, now: float, settings: LaunchSettings
) -> ModelContext:
    """Return a Model with everything that its decision depends on."""
    pods = pods_of(model, state, memory)
    probe = memory.probe(model)
    progress = memory.progress.get(model.uid)
    groups = (state.group(model.metadata.namespace, name) for name in group_names(model))
    return ModelContext(
        view=view_of(model, groups),
        state=state,
        settings=settings,
        now=now,
        pods=pods,
        rejections=memory.rejections.get(model.uid),
        progress=progress if pods and progress is not None and progress.pod_uid == pods[-1].uid else None,
        probe=probe if pods and probe is not None and probe.answer.pod_uid == pods[-1].uid else None,
    )
