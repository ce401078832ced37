"""Members of the group `card`, their SharedGroup, and what is decided about them."""

from typing import Any

import msgspec

from flexinfer.api.lease import GPULease
from flexinfer.api.membership import GroupMembership
from flexinfer.api.model import Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, HeldDevice, SharedGroup
from flexinfer.arbiter import decide as deciding
from flexinfer.arbiter.effects import Advance, Create, Grant, GrantLease, Initialize, Report, Unprotect
from flexinfer.arbiter.keys import keys
from flexinfer.events import events
from flexinfer.events.nodes import Device, DeviceProcess
from flexinfer.state.actions import RequeueAt, WriteStatus
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.builders import NOW, SHARED, a_group, a_holder, a_model

WANTED = ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.REQUESTED))
FIRST = ("Accepted", "Placed", "Cached", ("Wanted", "True", Reason.FIRST_START))
IDLE = ("Accepted", "Placed", "Cached", ("Wanted", "False", Reason.IDLE))
STOPPED_READY = ("Ready", "False", Reason.STOPPED)
PLACED = Placement(vendor="nvidia", node="a", devices=placed_devices(["GPU-1"], 4000), footprint_mb=4000)
Key = tuple[str, str]


def member(name: str, conditions: Any = WANTED, since: str = "2026-11-24T10:00:00Z", **changes: Any) -> Model:
    """Return a member of the group `card`, with the transition time of its conditions."""
    facts: dict[str, Any] = {"gpu": SHARED, "placement": PLACED}
    model = a_model(name, conditions=conditions, **(facts | changes))
    stamped = tuple(msgspec.structs.replace(c, last_transition_time=since) for c in model.status.conditions)
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, conditions=stamped))


def queued(position: int) -> GroupMembership:
    """Return the status of a member that has a place in the queue."""
    return GroupMembership(group="card", state="Queued", position=position)


def held(holder: str = "a", step: str = GRANTED, turn: int = 1, **changes: Any) -> SharedGroup:
    """Return the SharedGroup of the group, held by one Model on GPU-1 of node a; a later step is a later version.

    `named`: telemetry named the device when the turn was granted.
    """
    version = changes.pop("version", turn * 10 + ["Granted", "Releasing", "Stopped"].index(step))
    device = HeldDevice(
        uuid="GPU-1", used_before_mb=changes.pop("before", None), other_processes=changes.pop("others", ())
    )
    devices = (device,) if changes.pop("named", True) else ()
    entry = a_holder(holder, step=step, turn=turn, devices=devices, reason=changes.pop("reason", ""))
    return a_group(entry, version=version, **changes)


def decided(state: ObservedState, now: float = NOW) -> list[Any]:
    """Return what is decided on every key."""
    return [action for key in sorted(keys(state)) for action in deciding.decide(state, key, now)]


def steps(state: ObservedState, now: float = NOW) -> list[Key]:
    """Return the effects on SharedGroups: name of the effect, and its Model, step or reason."""
    effects: list[Key] = []
    for action in decided(state, now):
        match action:
            case Grant():
                effects.append(("Grant", action.model.metadata.name))
            case GrantLease():
                effects.append(("Grant", f"lease {action.lease.metadata.name}"))
            case Advance():
                effects.append(("Advance", action.step))
            case Create():
                effects.append(("Create", action.group))
            case Initialize() | Unprotect():
                effects.append((type(action).__name__, action.group.metadata.name))
            case Report():
                effects.append(("Report", action.condition.reason))
            case _:
                continue
    return [effect for effect in effects if effect != ("Report", "NotBlocked")]


def changes(state: ObservedState, now: float = NOW) -> dict[str, Key]:
    """Return key -> (status, reason) of every condition of a Model that is written."""
    return {
        a.key: (a.condition.status, a.condition.reason)
        for a in decided(state, now)
        if isinstance(a, WriteStatus)
    }


def messages(state: ObservedState, now: float = NOW) -> dict[str, str]:
    """Return key -> message of every condition of a Model that is written."""
    return {a.key: a.condition.message for a in decided(state, now) if isinstance(a, WriteStatus)}


def blocked(state: ObservedState, now: float = NOW) -> tuple[str, str] | None:
    """Return reason and message of Blocked=True as it is written to the SharedGroup; None if it is not."""
    found = [a.condition for a in decided(state, now) if isinstance(a, Report) and a.condition.true]
    return (found[0].reason, found[0].message) if found else None


def requeues(state: ObservedState, now: float = NOW) -> list[float]:
    """Return when decisions are due again."""
    return sorted(a.at for a in decided(state, now) if isinstance(a, RequeueAt))


def later(state: ObservedState, at: float, *parts: Any) -> ObservedState:
    """Return the state after events, SharedGroups and Models were observed at a time."""
    seen = [_event(part) for part in parts]
    return apply_events(state, [Observation(event, at) for event in seen])


def _event(part: Any) -> Any:
    if isinstance(part, SharedGroup):
        return events.GroupObserved(group=part)
    if isinstance(part, GPULease):
        return events.LeaseObserved(lease=part)
    return events.ModelObserved(model=part) if isinstance(part, Model) else part


def sample(used_mb: int, *processes: DeviceProcess, **changes: Any) -> events.GpusObserved:
    """Return telemetry of GPU-1 of node a."""
    facts: dict[str, Any] = {"total_mb": 24000, "free_mb": 24000 - used_mb, "used_mb": used_mb}
    device = Device(uuid="GPU-1", processes=processes, **(facts | changes))
    return events.GpusObserved(node="a", boot="b", sample=1, devices=(device,))


def process(pid: int = 7, used_mb: int = 0, name: str = "llama-server") -> DeviceProcess:
    """Return a process on a device."""
    return DeviceProcess(pid=pid, used_mb=used_mb, name=name)
