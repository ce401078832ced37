"""The arbiter of a history of cards: its own decisions, each carried out as its service does it, on what is so now."""

from collections.abc import Sequence

import msgspec

from flexinfer.api.labels import HELD_FINALIZER
from flexinfer.api.lease import GPULease
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import (
    GRANTED,
    RELEASING,
    STOPPED,
    Holder,
    SharedGroup,
    SharedGroupSpec,
    SharedGroupStatus,
    object_name,
)
from flexinfer.arbiter import status
from flexinfer.arbiter.decide import Action, decide
from flexinfer.arbiter.effects import (
    Advance,
    CheckLeaseExpiry,
    Create,
    Effect,
    Grant,
    GrantLease,
    Initialize,
    Preempt,
    Protect,
    Rebind,
    Report,
    Unprotect,
    WriteLeaseStatus,
)
from flexinfer.arbiter.foreign_holders import held_by_another
from flexinfer.arbiter.grant import may_have
from flexinfer.arbiter.group import has_returned, may_hold, may_hold_lease, must_leave
from flexinfer.arbiter.leases import end_is_recorded, granted_status
from flexinfer.arbiter.member import Member, of_model
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.events import events
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus, written
from tests.simulation.cards.laws import Laws
from tests.simulation.cards.world import NODE, World

_ROUNDS, _AGAIN_SECONDS = 300, 1.0
_LATE = 0.1
"""The share of decisions that are carried out later, when something else may have happened."""


class Arbiter:
    """Decides on the keys that are dirty or due, until none is."""

    def __init__(self, world: World, laws: Laws) -> None:
        self._world, self._laws, self._telemetry = world, laws, Telemetry()
        self._due: dict[str, float] = {}
        self._pending: set[str] = set()  # keys of which what was decided is still to be carried out
        self.sampled: dict[str, float] = {}  # uid -> when the sample was taken by which it was granted
        self.grants = 0

    def next_due(self) -> float:
        """Return when to decide again although nothing happens."""
        due = (at for key, at in self._due.items() if key not in self._pending)
        return min(due, default=float("inf"))

    @property
    def has_work(self) -> bool:
        """Whether a key is to be decided on now."""
        return bool(self._world.dirty - self._pending)

    def settle(self) -> None:
        """Decide until nothing changes any more."""
        world = self._world
        for _ in range(_ROUNDS):
            world.dirty |= {key for key, at in self._due.items() if at <= world.now}
            if not world.dirty - self._pending:
                return
            key = min(world.dirty - self._pending)
            world.dirty.discard(key)
            self._due.pop(key, None)
            self._decide(key)
        world.report_problem(f"decisions do not settle: {sorted(world.dirty)}")
        world.dirty.clear()

    def _decide(self, key: str) -> None:
        world = self._world
        actions = list(decide(world.state, key, world.now))
        effects = [action for action in actions if not isinstance(action, RequeueAt)]
        times = [action.at for action in actions if isinstance(action, RequeueAt)]
        if effects and world.chance.random() < _LATE:
            self._pending.add(key)
            world.enter(world.chance.uniform(0.05, 1.5), lambda: self._perform_late(key, effects, times))
            return
        self._perform_all(key, effects, times)

    def _perform_late(self, key: str, effects: Sequence[Action], times: Sequence[float]) -> None:
        """Carry out what was decided some time ago; the key is decided on again afterwards, as the work queue does."""
        self._pending.discard(key)
        self._perform_all(key, effects, times)
        self._world.dirty.add(key)

    def _perform_all(self, key: str, effects: Sequence[Action], due: Sequence[float]) -> None:
        world = self._world
        before = world.state
        self._telemetry.observe(before, None)
        for action in effects:
            match action:
                case WriteStatus():
                    self._write(action)
                case CatchUp() | RequeueAt():
                    continue
                case _:
                    self._perform(action)
        if world.state is not before:
            world.dirty.add(key)
        # What changes nothing is tried again later, as the work queue does: a grant, while a sample may still come.
        again = [world.now + _AGAIN_SECONDS] if effects and world.state is before else []
        times = [*again, *due]
        if times:
            self._due[key] = max(min(times), world.now + 0.001)

    def _write(self, write: WriteStatus) -> None:
        model = self._world.state.models.get(write.key)
        if model is not None and model.uid == write.model.uid and model.metadata == write.model.metadata:
            self._world.write(written(write))

    def _perform(self, action: Effect) -> None:
        world = self._world
        if isinstance(action, Create):
            if f"{action.namespace}/{object_name(action.group)}" not in world.state.groups:
                world.observe(events.GroupObserved(group=_created(action)))
            return
        group = world.state.groups.get(action.group.key)
        if group is None:
            return
        match action:
            case Initialize(models=models, highest_turn=highest):
                leases = [lease for lease in world.state.leases.values() if lease.spec.group == group.name]
                self._put(group, status.initialized(group, [], models, highest, world.stamp(), leases))
            case Grant(model=model):
                self._grant(group, self._read(model))
            case Preempt():
                self._preempt(group, action)
            case Advance():
                self._advance(group, action)
            case Report(condition=condition):
                self._put(group, status.reported(group, condition, world.stamp()))
            case Rebind() | Protect() | Unprotect():
                return
            case _:
                self._perform_on_lease(group, action)

    def _read(self, model: Model) -> Member | None:
        current = self._world.state.models.get(model.key)
        return (
            of_model(current)
            if current is not None and current.uid == model.uid and may_hold(current)
            else None
        )

    def _grant(self, group: SharedGroup, member: Member | None) -> None:
        world, now = self._world, self._world.now
        self._telemetry.observe(world.state, None)
        if member is None or group.holder(member.uid) is not None or not group.initialized:
            return
        if held_by_another(member, group, world.state.groups.values(), world.state.nodes):
            return
        if not may_have(member, group, self._telemetry, now):
            return
        seen = self._telemetry.seen(NODE, member.uid, now)
        shared = self._telemetry.shares(member, group, now)
        sample = world.state.gpus.get(NODE)
        self.sampled[member.uid] = sample.at if sample is not None else 0.0
        self.grants += 1
        self._put(group, status.granted(group, member, seen, world.stamp(), shared=shared), member)

    def _preempt(self, group: SharedGroup, action: Preempt) -> None:
        world, holder = self._world, group.holder(action.holder.uid)
        if holder is None or (holder.turn, holder.step) != (action.holder.turn, GRANTED):
            return
        waiter = action.waiter
        if isinstance(waiter, GPULease):
            member = self._telemetry.lease(waiter, group) if may_hold_lease(waiter) else None
        else:
            member = self._read(waiter)
        self._telemetry.observe(world.state, None)
        if member is not None and self._telemetry.may_leave(holder, member, group, world.now):
            self._laws.preempted(group, holder, member)
            changed = status.preempted(group, holder.uid, member.object, action.reason, world.stamp())
            self._put(group, changed)

    def _advance(self, group: SharedGroup, action: Advance) -> None:
        holder = group.holder(action.holder.uid)
        if holder is None or (holder.turn, holder.step) != (action.holder.turn, action.holder.step):
            return
        reason = self._still(group, holder, action)
        if reason is not None:
            self._put(group, status.advanced(group, holder.uid, action.step, reason, self._world.stamp()))

    def _still(self, group: SharedGroup, holder: Holder, action: Advance) -> str | None:
        """Return the reason of a step by what is so now; None if it is not due any more."""
        state = self._world.state
        if holder.lease:
            lease = state.leases.get(f"default/{holder.lease}")
            lease = lease if lease is not None and lease.uid == holder.uid else None
            told = end_is_recorded(lease, holder)
            return None if action.step == STOPPED and not told else action.reason or holder.reason
        model = state.models.get(f"default/{holder.model}")
        model = model if model is not None and model.uid == holder.uid else None
        if action.step == RELEASING:
            return "its Model was deleted" if model is None else must_leave(model, group, holder.turn) or None
        stays = action.step == STOPPED and model is not None and not has_returned(model, holder.turn)
        return None if stays else holder.reason

    def _perform_on_lease(
        self, group: SharedGroup, action: GrantLease | WriteLeaseStatus | CheckLeaseExpiry
    ) -> None:
        world, lease = self._world, self._world.state.leases.get(action.lease.key)
        if lease is None or lease.uid != action.lease.uid:
            return
        match action:
            case GrantLease():
                self._telemetry.observe(world.state, None)
                self._grant(group, self._telemetry.lease(lease, group) if may_hold_lease(lease) else None)
            case WriteLeaseStatus(status=new):
                holder = group.holder(lease.uid)
                if holder is not None and holder.step == GRANTED:
                    new = granted_status(group, holder, lease, new.since or world.stamp())
                world.write_lease(msgspec.structs.replace(lease, status=new))
            case CheckLeaseExpiry():
                world.observe(
                    events.LeaseTimed(
                        namespace="default",
                        name=lease.metadata.name,
                        uid=lease.uid,
                        expires_at=lease.status.expires_at,
                        remaining_seconds=world.seconds_until(lease.status.expires_at),
                    )
                )

    def _put(self, group: SharedGroup, new: SharedGroupStatus, member: Member | None = None) -> None:
        """Write the status of a group, and let it be judged; `member` is the one that is granted."""
        self._laws.written(group, new, member)
        self._world.write_group(group, new)


def _created(action: Create) -> SharedGroup:
    name = object_name(action.group)
    metadata = Metadata(
        name=name,
        namespace=action.namespace,
        uid=f"uid-group-{name}",
        resource_version="1",
        generation=1,
        finalizers=(HELD_FINALIZER,),
    )
    spec = SharedGroupSpec(group=action.group, min_stay="10s", max_wait="60s")
    return SharedGroup(metadata=metadata, spec=spec)
