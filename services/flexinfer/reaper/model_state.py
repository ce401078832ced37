"""ModelState: one Model as the reaper sees it, its conditions read once and its demand beside them. Pure."""

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.state.demand import Demand, demand_of
from flexinfer.state.observed import ObservedState

_START_FAILURES = reasons.FINAL_FOR[conditions.READY]


class ModelState(msgspec.Struct, frozen=True, kw_only=True):
    """A Model, its demand, and the conditions that Wanted is decided from.

    `wanted_changed` and `ready_changed` are when their status or reason last changed, in monotonic seconds.
    """

    model: Model
    demand: Demand
    wanted: Condition | None
    ready: Condition | None
    wanted_changed: float | None
    ready_changed: float | None

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.model.key

    @property
    def is_wanted(self) -> bool:
        """Whether Wanted is True, of whatever generation."""
        return self.wanted is not None and self.wanted.true

    @property
    def reason(self) -> str:
        """The reason of Wanted, empty if it was never written."""
        return self.wanted.reason if self.wanted is not None else ""

    @property
    def is_ready(self) -> bool:
        """Whether the engine serves."""
        return self.ready is not None and self.ready.true

    @property
    def is_loading(self) -> bool:
        """Whether the engine is being started."""
        return self.ready is not None and not self.ready.true and self.ready.reason in reasons.LOADING

    @property
    def changed_at(self) -> float | None:
        """When Wanted or Ready last changed; None if no change was observed."""
        return max((at for at in (self.wanted_changed, self.ready_changed) if at is not None), default=None)

    @property
    def uses_node(self) -> bool:
        """Whether a start uses the node: not once it serves, nor while it waits for devices, an image, a back-off or a Pod that is rejected."""
        granted = self.model.condition(conditions.GRANTED)
        waits = granted is not None and granted.reason in (Reason.QUEUED, Reason.PREEMPTED)
        return not waits and (
            self.ready is None or not (self.ready.true or self.ready.reason in reasons.STALLED)
        )

    @property
    def node(self) -> str:
        """The node that the Model is scheduled to, or empty."""
        return self.model.assigned_node

    @property
    def start_failure(self) -> Condition | None:
        """Ready, if it says that the start of the current generation has finally failed."""
        ready = self.ready
        if (
            ready is not None
            and ready.status == conditions.FALSE
            and ready.reason in _START_FAILURES
            and ready.observed_generation == self.model.metadata.generation
        ):
            return ready
        return None

    @property
    def needs_initial_start(self) -> bool:
        """Whether the initial start is still to come: its memory is the condition itself."""
        match self.reason:
            case "":
                return True
            case Reason.FIRST_START_FAILED:
                return (
                    self.wanted is not None
                    and self.wanted.observed_generation != self.model.metadata.generation
                )
            case Reason.FIRST_START_QUEUED | Reason.NOT_ACCEPTED:
                return self.wanted is not None and self.wanted.status == conditions.FALSE
            case _:
                return False

    @property
    def was_retried(self) -> bool:
        """Whether a start was requested after the failure that Ready shows: it is then not that start's."""
        return (
            self.wanted_changed is not None
            and self.ready_changed is not None
            and self.wanted_changed > self.ready_changed
            and self.is_wanted
            and self.reason == Reason.REQUESTED
        )


def model_state(model: Model, state: ObservedState, now: float) -> ModelState:
    """Return a Model as the reaper sees it."""
    return ModelState(
        model=model,
        demand=demand_of(model, state, now),
        wanted=model.condition(conditions.WANTED),
        ready=model.condition(conditions.READY),
        wanted_changed=state.changed(model, conditions.WANTED),
        ready_changed=state.changed(model, conditions.READY),
    )


def has_new_request(item: ModelState, state: ObservedState) -> bool:
    """Return whether a request came that the conditions do not answer yet."""
    if item.is_wanted and item.start_failure is None:
        return False
    answered_at = item.changed_at
    uid, wake_at = state.wakes.get(item.key, ("", 0.0))
    if uid == item.model.uid and (answered_at is None or wake_at > answered_at):
        return True
    return item.demand.busy and any(
        activity.waiting and (answered_at is None or activity.at > answered_at)
        for activity in state.activity_of(item.model).values()
    )
