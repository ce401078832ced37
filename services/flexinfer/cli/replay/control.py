"""Reaper and arbiter in a replay: their own decisions, and what their writes make of the cluster. Pure.

Nothing is decided here. A step of the arbiter is carried out as its service does it: on what is so now, and only if that still allows it.
"""

from collections.abc import Mapping

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.sharedgroup import GRANTED
from flexinfer.arbiter import budget, preemption, status
from flexinfer.arbiter import decide as arbiter
from flexinfer.arbiter.effects import Advance, Grant, Preempt, Report, key_of
from flexinfer.arbiter.group import may_hold
from flexinfer.arbiter.member import of_model
from flexinfer.arbiter.memory_release import Seen
from flexinfer.cli.replay.cluster import Cluster
from flexinfer.cli.replay.objects import NAMESPACE, NODE
from flexinfer.cli.replay.trace import GROUP
from flexinfer.reaper import decide as reaper
from flexinfer.reaper.decide import RecordActivity
from flexinfer.reaper.memory import ActivityWritten, Memory, remember
from flexinfer.state.actions import CatchUp, RequeueAt, WriteStatus, written
from flexinfer.state.observed import Activity


class _Reaped(msgspec.Struct, frozen=True):
    """What the reaper has decided on a Model from, and when to decide again: until one of these changes it says the same."""

    model: Model
    activity: Mapping[str, Activity] | None
    again: float | None


class Control:
    """What the components decide of a cluster, and carry out; `swapped` are the turns for which another Model had to leave."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._memory = Memory()
        self._reaped: dict[str, _Reaped] = {}
        self._room_made: set[str] = set()
        self.swapped: set[int] = set()

    def decide(self) -> float | None:
        """Carry out what is decided now; returns when to decide again, None if only an event changes that."""
        times = [self._reap(key) for key in sorted(self._cluster.state.models)]
        times += self._arbitrate()
        return min((at for at in times if at is not None and at > self._cluster.now), default=None)

    def _reap(self, key: str) -> float | None:
        """Carry out what the reaper decides on a Model; returns when to decide again."""
        state, now, times = self._cluster.state, self._cluster.now, list[float]()
        model, activity, before = state.models[key], state.activity.get(key), self._reaped.get(key)
        same = before is not None and before.model is model and before.activity is activity
        if before is not None and same and (before.again is None or now < before.again):
            return before.again
        for action in list(reaper.decide(state, self._memory, key, now)):
            match action:
                case RequeueAt(at=at):
                    times.append(at)
                case RecordActivity(write=write, last=last):
                    self._memory = remember(self._memory, ActivityWritten(key, model.uid, last), now)
                    self._write(write)
                case WriteStatus():
                    self._write(action)
                case CatchUp():
                    continue  # nothing that is published is missed here
        again = min(times, default=None)
        self._reaped[key] = _Reaped(model, activity, again)
        return again

    def _arbitrate(self) -> list[float]:
        """Carry out what the arbiter decides on the group; returns when to decide again."""
        cluster, times = self._cluster, list[float]()
        for action in list(arbiter.decide(cluster.state, key_of(NAMESPACE, GROUP), cluster.now)):
            match action:
                case RequeueAt(at=at):
                    times.append(at)
                case WriteStatus():
                    self._write(action)
                case Grant():
                    self._grant(action)
                case Preempt():
                    self._preempt(action)
                case Advance():
                    self._advance(action)
                case Report():
                    cluster.write_group(status.reported(cluster.group, action.condition, ""))
                case _:
                    raise ValueError(f"the arbiter decided {type(action).__name__} on an initialised group")
        return times

    def _write(self, write: WriteStatus) -> None:
        self._cluster.write(
            write.model.metadata.name, lambda model: written(msgspec.structs.replace(write, model=model))
        )

    def _grant(self, action: Grant) -> None:
        cluster, group = self._cluster, self._cluster.group
        model = cluster.model(action.model.metadata.name)
        fits = budget.room(of_model(model), group, group.status.holders, cluster.state, cluster.now).fits
        if not may_hold(model) or not fits:
            return
        shared = not budget.alone(of_model(model), group, cluster.state, cluster.now)
        pods = budget.pods_of_others(NODE, model.uid, cluster.state)
        snapshot = Seen(sample=cluster.state.gpus.get(NODE), now=cluster.now, pods=pods)
        away_seconds = preemption.away_seconds(of_model(model), cluster.state, cluster.now)
        new_status = status.granted(
            group, of_model(model), snapshot, "", shared=shared, away_seconds=away_seconds
        )
        if model.uid in self._room_made:
            self._room_made.discard(model.uid)
            self.swapped.add(new_status.turn)
        cluster.write_group(new_status)

    def _preempt(self, action: Preempt) -> None:
        cluster, group = self._cluster, self._cluster.group
        holder, model = group.holder(action.holder.uid), cluster.model(action.waiter.metadata.name)
        if (
            holder is None
            or (holder.turn, holder.step) != (action.holder.turn, GRANTED)
            or not may_hold(model)
        ):
            return
        if preemption.leave(holder, of_model(model), group, cluster.state, cluster.now).allowed:
            self._room_made.add(model.uid)
            cluster.write_group(status.preempted(group, holder.uid, model, action.reason, ""))

    def _advance(self, action: Advance) -> None:
        group = self._cluster.group
        holder = group.holder(action.holder.uid)
        if holder is not None and (holder.turn, holder.step) == (action.holder.turn, action.holder.step):
            self._cluster.write_group(status.advanced(group, holder.uid, action.step, action.reason, ""))
