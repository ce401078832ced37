"""Should this Model be running? Pure: what is known and what time it is, in; verdicts, out.

In this order, the first that applies:
  (1) it is being deleted: no;
  (2) its spec is not accepted: no;
  (3) it is not serverless: yes;
  (4) its start failed and nobody asked since: no;
  (5) somebody asks for it: yes;
  (6) it owes its first start: yes if it may start now, else it queues;
  (7) it is wanted and loads, or was asked within idleTimeout: still yes;
  (8) no.
Its memory is its own condition: no `Wanted`, or False/FirstStartQueued, means that the first start is still owed.
"""

from collections.abc import Iterator, Mapping

import msgspec

from flexinfer.api import conditions, reasons
from flexinfer.api.conditions import Condition
from flexinfer.api.model import Model, seconds
from flexinfer.api.reasons import Reason
from flexinfer.api.status import MonotonicTime, WantedStatus
from flexinfer.events.workload import FREED
from flexinfer.reaper.demand import Demand, demand_of
from flexinfer.reaper.memory import Memory
from flexinfer.state import actions
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.observed import ObservedState

WRITE_SECONDS = 60.0
"""At most this often is lastActiveTime written while a Model is in use."""
OVERDUE_SECONDS = 1.0
"""How often a Model is looked at that would sleep, did it not load or were it not asked for: news of that come by themselves."""
_FAILED_STARTS = reasons.FINAL_FOR[conditions.READY]


class RecordActivity(msgspec.Struct, frozen=True, kw_only=True):
    """Write a newer lastActiveTime beside the verdict as it stands."""

    write: WriteStatus
    last: float

    @property
    def key(self) -> str:
        """The Model's key."""
        return self.write.key


def decide(
    state: ObservedState, memory: Memory, now: float
) -> Iterator[WriteStatus | RecordActivity | RequeueAt]:
    """Yield a verdict for every Model whose verdict is not the one that stands."""
    starting = _starting(state)
    for key in sorted(state.models):
        model = state.models[key]
        demand = demand_of(model, state, now)
        waits = actions.first_write_due(model, conditions.WANTED, state.first_seen.get(model.uid), now)
        if waits is not None and not demand.busy and not model.deleting:
            yield RequeueAt(waits)
            continue
        condition = judge(model, state, demand, now, starting)
        if condition.reason == Reason.FIRST_START and model.spec.group == "" and _under_way(model):
            starting[_node(model)] = key
        yield from _told(model, memory, condition, demand, now)


def judge(
    model: Model, state: ObservedState, demand: Demand, now: float, starting: Mapping[str, str]
) -> Condition:
    """Return the verdict on one Model; `starting` is node -> key of the first start under way there."""
    if model.deleting:
        return _no(model, Reason.DELETING, "the Model is being deleted")
    if model.condition_status(conditions.ACCEPTED) == conditions.FALSE:
        return _no(model, Reason.NOT_ACCEPTED, "the spec is not accepted")
    if not model.spec.serverless.enabled:
        return _yes(model, Reason.ALWAYS_ON, "serverless.enabled is false, so it always runs")
    failure = _failure(model)
    asked = _asked(model, state, demand)
    if failure is not None and not asked and not (demand.busy and _tried_again(model, state)):
        first = _reason(model) in (Reason.FIRST_START, Reason.FIRST_START_FAILED)
        return _no(
            model,
            Reason.FIRST_START_FAILED if first else Reason.START_FAILED,
            f"{failure.reason}: {failure.message}; a request or a change of the spec tries again",
        )
    if demand.busy or asked:
        return _requested(model)
    if _owes_first_start(model):
        return _first_start(model, state, starting)
    return _lingering(model, demand, now)


def _requested(model: Model) -> Condition:
    if _wanted(model) and _reason(model) in (Reason.ACTIVE, Reason.REQUESTED):
        return _as_it_stands(model)
    return _yes(model, Reason.REQUESTED, "somebody asks for it")


def _lingering(model: Model, demand: Demand, now: float) -> Condition:
    """Judge a Model that nobody asks for at this moment."""
    if not _wanted(model):
        return _no(model, Reason.IDLE, _idle_message(model))
    ready = model.condition(conditions.READY)
    if ready is not None and not ready.true and ready.reason in reasons.LOADING:
        return _as_it_stands(model)
    if _reason(model) == Reason.FIRST_START and (ready is None or not ready.true):
        return _as_it_stands(model)
    timeout = seconds(model.spec.serverless.idle_timeout)
    if demand.idle_since is None or now - demand.idle_since < timeout:
        if _reason(model) != Reason.FIRST_START:
            return _as_it_stands(model)
        return _yes(model, Reason.ACTIVE, f"it answers; it sleeps when idle for {timeout:g} s")
    return _no(model, Reason.IDLE, _idle_message(model))


def _as_it_stands(model: Model) -> Condition:
    """Return the standing verdict for the present generation: another wording would be another write."""
    standing = model.condition(conditions.WANTED)
    return _yes(model, _reason(model), standing.message if standing is not None else "")


def _idle_message(model: Model) -> str:
    return f"nobody asked for {model.spec.serverless.idle_timeout}; a request wakes it"


def _first_start(model: Model, state: ObservedState, starting: Mapping[str, str]) -> Condition:
    for gate in (conditions.ACCEPTED, conditions.PLACED, conditions.CACHED):
        if not model.is_true(gate):
            return _no(model, Reason.FIRST_START_QUEUED, f"its first start waits for {gate}")
    other = starting.get(_node(model), model.key)
    if other != model.key:
        return _no(
            model, Reason.FIRST_START_QUEUED, f"its first start waits for that of {other} on {_node(model)}"
        )
    asking = _asked_on(model, state)
    if asking:
        return _no(
            model, Reason.FIRST_START_QUEUED, f"its first start gives way to {asking}, which is asked for"
        )
    holder = _group_holder(model, state)
    if holder:
        return _no(
            model,
            Reason.FIRST_START_QUEUED,
            f"{holder} holds the device of group {model.spec.group}; a first start makes nobody leave",
        )
    return _yes(model, Reason.FIRST_START, "a new Model starts once, so that its owner sees it work")


def _asked_on(model: Model, state: ObservedState) -> str:
    """Return a Model of the same node that is asked for and not ready yet."""
    node = _node(model)
    for key in sorted(state.models):
        other = state.models[key]
        if (
            key != model.key
            and _node(other) == node
            and _wanted(other)
            and _reason(other) == Reason.REQUESTED
            and _under_way(other)
        ):
            return key
    return ""


def _group_holder(model: Model, state: ObservedState) -> str:
    if not model.spec.group:
        return ""
    for lease in state.leases.values():
        same = lease.namespace == model.metadata.namespace and lease.group == model.spec.group
        if same and lease.step != FREED and lease.holder_uid != model.uid:
            return lease.holder
    return ""


def _starting(state: ObservedState) -> dict[str, str]:
    """Return node -> key of the Model whose first start is under way there."""
    found: dict[str, str] = {}
    for key in sorted(state.models):
        model = state.models[key]
        first = _wanted(model) and _reason(model) == Reason.FIRST_START and not model.deleting
        if first and _under_way(model) and _failure(model) is None:
            found.setdefault(_node(model), key)
    return found


def _under_way(model: Model) -> bool:
    """Tell whether the engine of a Model that is wanted is on its way, or could be at once."""
    ready = model.condition(conditions.READY)
    return ready is None or not (ready.true or ready.reason in reasons.STALLED)


def _failure(model: Model) -> Condition | None:
    """Return why the present generation's start failed for good, if it did."""
    ready = model.condition(conditions.READY)
    if (
        ready is not None
        and ready.status == conditions.FALSE
        and ready.reason in _FAILED_STARTS
        and ready.observed_generation == model.metadata.generation
    ):
        return ready
    return None


def _asked(model: Model, state: ObservedState, demand: Demand) -> bool:
    """Tell whether a request came that the verdict as it stands does not know of yet."""
    uid, woken = state.wakes.get(model.key, ("", 0.0))
    answered = max(
        (
            state.changed_at[pair]
            for kind in (conditions.WANTED, conditions.READY)
            if (pair := (model.key, kind)) in state.changed_at
        ),
        default=None,
    )
    if _wanted(model) and _failure(model) is None:
        return False
    if uid == model.uid and (answered is None or woken > answered):
        return True
    return demand.busy and any(
        a.waiting and (answered is None or a.at > answered) for a in state.activity_of(model)
    )


def _tried_again(model: Model, state: ObservedState) -> bool:
    """Tell whether the failure is older than the verdict that asks for another start: it is then not the launcher's word on that."""
    wanted = state.changed_at.get((model.key, conditions.WANTED))
    failed = state.changed_at.get((model.key, conditions.READY))
    newer = wanted is not None and failed is not None and wanted > failed
    return newer and _wanted(model) and _reason(model) == Reason.REQUESTED


def _owes_first_start(model: Model) -> bool:
    wanted = model.condition(conditions.WANTED)
    if wanted is None:
        return True
    if wanted.reason == Reason.FIRST_START_FAILED:
        return wanted.observed_generation != model.metadata.generation
    return wanted.status == conditions.FALSE and wanted.reason in (
        Reason.FIRST_START_QUEUED,
        Reason.NOT_ACCEPTED,
    )


def _wanted(model: Model) -> bool:
    wanted = model.condition(conditions.WANTED)
    return wanted is not None and wanted.true


def _reason(model: Model) -> str:
    wanted = model.condition(conditions.WANTED)
    return wanted.reason if wanted is not None else ""


def _node(model: Model) -> str:
    return model.status.placement.node if model.status.placement else ""


def _yes(model: Model, reason: str, message: str) -> Condition:
    return actions.condition(model, conditions.WANTED, conditions.TRUE, reason, message)


def _no(model: Model, reason: str, message: str) -> Condition:
    return actions.condition(model, conditions.WANTED, conditions.FALSE, reason, message)


def _told(
    model: Model, memory: Memory, condition: Condition, demand: Demand, now: float
) -> Iterator[WriteStatus | RecordActivity | RequeueAt]:
    """Yield what makes a verdict known, and when it may change by itself."""
    last = demand.asked
    known = memory.written.get(model.uid)
    newer = last is not None and (known is None or last > known + 0.5)
    active: MonotonicTime | str | None = model.status.last_active_time
    if newer and last is not None:
        active = MonotonicTime(last)
    status = WantedStatus(condition=condition, last_active_time=active)
    if not conditions.same(model.condition(conditions.WANTED), condition):
        told = WriteStatus(model=model, status=status)
        yield RecordActivity(write=told, last=last) if newer and last is not None else told
    elif newer and last is not None and (known is None or last - known >= WRITE_SECONDS):
        yield RecordActivity(write=WriteStatus(model=model, status=status, quiet=True), last=last)
    if condition.true and demand.idle_since is not None and model.spec.serverless.enabled:
        due = demand.idle_since + seconds(model.spec.serverless.idle_timeout)
        yield RequeueAt(due if due > now else now + OVERDUE_SECONDS)
    elif condition.true and demand.recount is not None:
        yield RequeueAt(demand.recount)
