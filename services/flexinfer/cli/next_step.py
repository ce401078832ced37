"""What to do next about a Model, as `flexinfer why` says it: nothing, wait, or act. Pure.

The remedy is the one that the condition's message states, else that of its reason (`api.reasons`). What helps in a shared
group, and which log there is to read, depends on more than the reason, and is decided here.
"""

from collections.abc import Mapping, Sequence

from flexinfer.api import conditions, reasons
from flexinfer.api.base import Resource
from flexinfer.api.conditions import Condition, one_line
from flexinfer.api.lease import HIGHEST_PRIORITY
from flexinfer.api.model import BackendStatus, Gpu, Model
from flexinfer.api.phase import Cause, cause_of
from flexinfer.api.placement import Placement
from flexinfer.api.reasons import Reason
from flexinfer.api.services import OWNERS
from flexinfer.api.sharedgroup import GRANTED, ONE_AT_A_TIME, Holder, SharedGroup

NONE, WAIT, ACT = "None", "Wait", "Act"
AT_REST = reasons.AT_REST | {Reason.IDLE, Reason.NOT_WANTED, Reason.RELEASED, Reason.DRAINING}
"""A False condition with one of these is no fault: the Model is scaled to zero, or about to be."""
_RESTART, _UNRESPONSIVE, _SCHEDULING, _IMAGE = "Restart", "Unresponsive", "Scheduling", "Image"
"""Stages of loading (`status.backend.loadingStage`)."""
_REMEDY = ". Remedy: "


class NextStep(Resource, frozen=True, kw_only=True, omit_defaults=False):
    """What to do: `action` is None (it is as it should be), Wait (it ends by itself) or Act."""

    action: str
    message: str


def next_step(model: Model, group: SharedGroup | None = None, members: Sequence[Model] = ()) -> NextStep:
    """Return what to do; `group` is the Model's SharedGroup, `members` are the Models that hold its devices."""
    ready = model.condition(conditions.READY)
    if ready is not None and ready.true:
        return _serving(model, ready, group, members)
    return _held_up(model, cause_of(model.status.conditions, model.metadata.generation), group, members)


def _serving(model: Model, ready: Condition, group: SharedGroup | None, members: Sequence[Model]) -> NextStep:
    """Return the step of a Model that answers: none, unless a newer spec is not served or the engine has to leave."""
    fact = f"the engine serves requests at {model.status.endpoint}"
    generation = model.metadata.generation
    older = ready.reason == Reason.SERVING_OLDER_SPEC or ready.observed_generation != generation
    before = [condition for condition in model.status.conditions if condition.type != conditions.READY]
    cause = cause_of(before, generation)
    if cause.condition is None:
        waits = older and cause.type != conditions.READY
        return _later(_await(cause), fact) if waits else NextStep(action=NONE, message=f"nothing: {fact}")
    if cause.condition.true or cause.reason in AT_REST:
        return NextStep(action=NONE, message=f"nothing: {fact}")
    return _later(_held_up(model, cause, group, members), f"{fact}{' with the spec before' if older else ''}")


def _later(step: NextStep, fact: str) -> NextStep:
    return NextStep(action=step.action, message=f"{step.message}; until then {fact}")


def _held_up(model: Model, cause: Cause, group: SharedGroup | None, members: Sequence[Model]) -> NextStep:
    """Return what helps a Model that something holds up."""
    if cause.condition is None:
        return _await(cause)
    if cause.reason == Reason.QUEUED:
        return _queued(model, group, members)
    meta = model.metadata
    text = (
        _of_the_pod(model, cause.condition)
        or _stated(cause.condition)
        or reasons.remedy(cause.reason, namespace=meta.namespace, name=meta.name)
    )
    if not text:
        state = f"{cause.type} is {cause.condition.status}: {cause.reason}"
        return NextStep(action=WAIT, message=f"wait: no action is needed ({state})")
    return NextStep(action=_action(text), message=text)


def _action(remedy: str) -> str:
    """Return which kind of step a remedy is, by its first word."""
    return {"nothing": NONE, "none": NONE, "wait": WAIT}.get(remedy.partition(" ")[0].strip(":;,"), ACT)


def _await(cause: Cause) -> NextStep:
    owner = OWNERS[cause.type]
    text = f"wait for the {owner}, which writes {cause.type}; `flexinfer services` shows whether it runs"
    return NextStep(action=WAIT, message=text)


def _stated(condition: Condition) -> str:
    """Return the remedy that the message of a condition states: it knows the cause, where the reason's has to do for all; empty without one."""
    return one_line(condition.message).partition(_REMEDY)[2]


def _of_the_pod(model: Model, condition: Condition) -> str:
    """Return the command that shows more of the Pod that Ready describes; empty where its reason's remedy is right, or nothing more is known."""
    if condition.type != conditions.READY:
        return ""
    backend, meta = model.status.backend or BackendStatus(), model.metadata
    pod = f"-n {meta.namespace} {meta.name}-0"
    match condition.reason:
        case Reason.STARTING if backend.loading_stage == _SCHEDULING and ": " in condition.message:
            return f"make room for what the scheduler names, or lower the requirements in spec: kubectl describe pod {pod}"
        case Reason.STARTING if backend.loading_stage == _IMAGE and condition.message.endswith(")"):
            return f"fix what the message names, after which the node continues by itself: kubectl describe pod {pod}"
        case Reason.RESTARTING | Reason.BACK_OFF if backend.loading_stage == _RESTART:
            option = " --previous" if backend.restarts else ""
            return f"fix the cause that the message names; the engine's log: kubectl logs {pod}{option}"
        case Reason.RESTARTING if backend.loading_stage == _UNRESPONSIVE:
            return f"fix the cause that the message names; the engine's log: kubectl logs {pod}"
        case Reason.RESTARTING:
            return "wait: a new Pod is created"
        case _:
            return ""


def _queued(model: Model, group: SharedGroup | None, members: Sequence[Model]) -> NextStep:
    """Return what helps a Model that is queued for devices: a higher priority only if a holder stays that would leave for it."""
    if group is None:
        return NextStep(action=WAIT, message="wait: the devices are given out once the arbiter has the group")
    wanted = model.condition(conditions.WANTED)
    names = {member.uid: member for member in members}
    staying = [h for h in group.status.holders if h.step == GRANTED and (h.lease or h.uid in names)]
    leaving = [h for h in group.status.holders if h not in staying]
    if leaving and (group.status.room_for == model.uid or not staying):
        return NextStep(action=WAIT, message=f"wait until the memory of {_labels(leaving)} is released")
    if wanted is not None and wanted.reason == Reason.FIRST_START:
        text = f"wait, or send a request: an initial start makes none leave that is in use or was requested, and a request does (holders: {_labels(staying)})"
        return NextStep(action=WAIT, message=text)
    return _against(model, staying, names, group)


def _against(
    model: Model, staying: Sequence[Holder], members: Mapping[str, Model], group: SharedGroup
) -> NextStep:
    """Return what helps against the holders that stay."""
    mine = model.spec.priority
    above = {h.label: members[h.uid].spec.priority for h in staying if not h.lease}
    movable = {label: its for label, its in above.items() if mine <= its < HIGHEST_PRIORITY}
    ends = "".join(
        f"; to end {h.label} now: flexinfer lease give {h.lease} -n {model.metadata.namespace}"
        for h in staying
        if h.lease
    )
    if movable and _fits_with(model, [h for h in staying if h.label not in movable], group):
        holder_list = ", ".join(f"{label} has {its}" for label, its in movable.items())
        return NextStep(
            action=WAIT,
            message=f"wait, or set spec.gpu.priority (now {mine}) above that of a holder that is to leave: {holder_list}{ends}",
        )
    if ends:
        return NextStep(action=WAIT, message=f"wait: a lease is never made to leave{ends}")
    if not staying:
        text = "wait; if the message names memory that others use, end those processes: `flexinfer gpus` lists them"
        return NextStep(action=WAIT, message=text)
    highest = [label for label, its in above.items() if its >= max(mine, HIGHEST_PRIORITY)]
    if highest:
        text = f"wait, or lower spec.gpu.priority of {', '.join(highest)}: no Model can be above {HIGHEST_PRIORITY}"
        return NextStep(action=WAIT, message=text)
    return NextStep(
        action=WAIT,
        message=f"wait: a higher spec.gpu.priority does not help, {mine} is above that of every holder already ({_labels(staying)})",
    )


def _fits_with(model: Model, holders: Sequence[Holder], group: SharedGroup) -> bool:
    """Return whether a Model fits on its devices together with holders that no priority makes leave, by what each is expected to use.

    Where that is not known, or one of them is to be alone, there is one holder at a time.
    """
    if not holders:
        return True
    placement, gpu = model.status.placement or Placement(), model.spec.gpu or Gpu()
    held_devices = [device for holder in holders for device in holder.devices]
    measurable = all(need.memory_mb for need in placement.devices) and all(
        device.memory_mb for device in held_devices
    )
    if group.spec.mode == ONE_AT_A_TIME or gpu.exclusive or not placement.devices or not measurable:
        return False
    return all(
        need.memory_mb + sum(device.memory_mb for device in held_devices if device.uuid == need.uuid)
        <= need.total_mb - group.spec.reserve_mb
        for need in placement.devices
    )


def _labels(holders: Sequence[Holder]) -> str:
    return ", ".join(holder.label for holder in holders)
