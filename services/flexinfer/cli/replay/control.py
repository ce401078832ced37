"""Reaper and arbiter in a replay: their own decisions, and what their writes make of the cluster. Pure.

Nothing is decided here. A step of the arbiter is carried out as its service does it: on what is so now, and only if that still allows it.
"""

from collections.abc import Callable

import msgspec

from flexinfer.api.sharedgroup import GRANTED
from flexinfer.arbiter import budget, policy, status
from flexinfer.arbiter import decide as arbiter
from flexinfer.arbiter.effects import Advance, Grant, Preempt, Report, key_of
from flexinfer.arbiter.group import may_hold
from flexinfer.cli.replay.cluster import Cluster
from flexinfer.cli.replay.objects import NAMESPACE, NODE
from flexinfer.cli.replay.trace import GROUP
from flexinfer.reaper import decide as reaper
from flexinfer.reaper.decide import RecordActivity
from flexinfer.reaper.memory import Memory
from flexinfer.state.actions import RequeueAt, WriteStatus, written


class Control:
    """What the components decide of a cluster, and carry out; `swapped` are the turns for which another Model had to leave."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._memory = Memory()
        self._room_made: set[str] = set()
        self.swapped: set[int] = set()

    def decide(self) -> float | None:
        """Carry out what is decided now; returns when to decide again, None if only an event changes that."""
        cluster, times = self._cluster, list[float]()
        for key in sorted(cluster.state.models):
            for action in reaper.decide(cluster.state, self._memory, key, cluster.now):
                match action:
                    case RequeueAt(at=at):
                        times.append(at)
                    case RecordActivity(write=write, last=last):
                        uids = {**self._memory.written, write.model.uid: last}
                        self._memory = msgspec.structs.replace(self._memory, written=uids)
                        self._write(write)
                    case WriteStatus():
                        self._write(action)
        for step in list(arbiter.decide(cluster.state, key_of(NAMESPACE, GROUP), cluster.now)):
            match step:
                case RequeueAt(at=at):
                    times.append(at)
                case WriteStatus():
                    self._write(step)
                case Grant():
                    self._grant(step)
                case Preempt():
                    self._preempt(step)
                case Advance():
                    self._advance(step)
                case Report():
                    self._report(step)
                case _:
                    raise ValueError(f"the arbiter decided {type(step).__name__} on an initialised group")
        return min((at for at in times if at > cluster.now), default=None)

    def _write(self, write: WriteStatus) -> None:
        self._cluster.write(
            write.model.metadata.name, lambda model: written(msgspec.structs.replace(write, model=model))
        )

    def _grant(self, action: Grant) -> None:
        cluster, group = self._cluster, self._cluster.group
        model = cluster.model(action.model.metadata.name)
        fits = budget.room(model, group, group.status.holders, cluster.state, cluster.now).fits
        if not may_hold(model) or not fits:
            return
        shared = not budget.alone(model, group, cluster.state, cluster.now)
        sample = cluster.state.gpus.get(NODE)
        granted = status.granted(group, model, sample, cluster.now, "", shared=shared)
        if model.uid in self._room_made:
            self._room_made.discard(model.uid)
            self.swapped.add(granted.turn)
        cluster.write_group(granted)

    def _preempt(self, action: Preempt) -> None:
        cluster, group = self._cluster, self._cluster.group
        holder, model = group.holder(action.holder.uid), cluster.model(action.model.metadata.name)
        if (
            holder is None
            or (holder.turn, holder.step) != (action.holder.turn, GRANTED)
            or not may_hold(model)
        ):
            return
        if policy.leave(holder, model, group, cluster.state, cluster.now).allowed:
            self._room_made.add(model.uid)
            cluster.write_group(status.preempted(group, holder.uid, model, action.reason, ""))

    def _advance(self, action: Advance) -> None:
        group = self._cluster.group
        holder = group.holder(action.holder.uid)
        if holder is not None and (holder.turn, holder.step) == (action.holder.turn, action.holder.step):
            self._cluster.write_group(status.advanced(group, holder.uid, action.step, action.reason, ""))

    def _report(self, action: Report) -> None:
        self._cluster.write_group(status.reported(self._cluster.group, action.condition, ""))
