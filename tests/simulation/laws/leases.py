"""A lease says Granted only while the group's object does, once; the object says Stopped only after the lease was told."""

from typing import Any

import msgspec

from flexinfer.api.lease import GPULease
from flexinfer.api.moments import moment
from flexinfer.api.sharedgroup import GRANTED, STOPPED, SharedGroup, group_key
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law
from tests.simulation.laws.facts import GROUP_KIND

LEASE_KIND = "gpuleases"
_LATE_SECONDS = 80.0
"""How late the end of a lease may be seen: the wall clock is read for it once in 60 s, and it may step."""


class Leases(Law):
    """Judges each write of a lease's status against the object of its group, and each step of its entry."""

    kinds = (LEASE_KIND, GROUP_KIND)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._leases: dict[str, GPULease] = {}
        self._groups: dict[str, SharedGroup] = {}

    def written(self, change: Change) -> None:
        """Judge a write of a lease, or of the object of a group."""
        if change.group_resource[1] == GROUP_KIND:
            self._step(change)
            return
        before = msgspec.convert(change.old, GPULease) if change.old is not None else None
        after = msgspec.convert(change.new, GPULease) if change.new is not None else None
        if after is None:
            self._leases.pop(before.uid if before is not None else "", None)
            return
        self._leases[after.uid] = after
        if after.granted and not (
            before is not None and before.granted and before.status.turn == after.status.turn
        ):
            self._granted(before, after)

    def _granted(self, before: GPULease | None, after: GPULease) -> None:
        key = group_key(after.metadata.namespace, after.spec.group)
        group = self._groups.get(key)
        holder = group.holder(after.uid) if group is not None else None
        if holder is None or (holder.step, holder.turn) != (GRANTED, after.status.turn):
            self.report(
                f"lease {after.key} was told Granted of turn {after.status.turn}, its entry is {holder}"
            )
        if before is not None and before.ended:
            self.report(f"lease {after.key} was over and is granted again")

    def _step(self, change: Change) -> None:
        before = msgspec.convert(change.old, SharedGroup) if change.old is not None else None
        if change.new is None:
            self._groups.pop(before.key if before is not None else "", None)
            return
        group = msgspec.convert(change.new, SharedGroup)
        self._groups[group.key] = group
        for holder in before.status.holders if before is not None else ():
            played = self.checker.simulation.people.played.get((holder.uid, holder.turn))
            if group.holder(holder.uid) is None and played is not None:
                self.report(
                    f"turn {holder.turn} of {holder.label} is Freed while its process {played.pid} runs"
                )
        for holder in group.status.holders:
            was = before.holder(holder.uid) if before is not None else None
            if not holder.lease or holder.step != STOPPED or (was is not None and was.step == STOPPED):
                continue
            lease = self._leases.get(holder.uid)
            if lease is not None and not lease.ended:
                self.report(f"turn {holder.turn} of lease {lease.key} is Stopped before it was told so")

    def passes(self) -> None:
        """Judge whether a lease outlasts its time."""
        now = self.checker.simulation.utc_now().timestamp()
        for lease in self._leases.values():
            end = moment(lease.status.expires_at) if lease.granted else None
            if end is not None and now - end > _LATE_SECONDS:
                self.report(f"lease {lease.key} is Granted after {lease.status.expires_at}")

    def ends_history(self) -> None:
        """Judge that no lease is left in a group: all were given back when the faults ended."""
        for left in self.left():
            self.report(left)

    def left(self) -> list[str]:
        """Return the leases that are in a group yet: one that is over stays until telemetry shows its memory free."""
        return [
            f"{holder.label} is still {holder.step} in {group.key}"
            for group in self._groups.values()
            for holder in group.status.holders
            if holder.lease
        ]
