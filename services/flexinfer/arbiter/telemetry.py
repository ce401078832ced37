"""Telemetry: what a grant is checked against and what is noted with it, as it was last observed."""

import asyncio

from flexinfer.api.lease import GPULease
from flexinfer.api.sharedgroup import Holder, SharedGroup
from flexinfer.arbiter import budget, preemption
from flexinfer.arbiter.foreign_holders import Nodes
from flexinfer.arbiter.member import Member, of_lease
from flexinfer.arbiter.memory_release import Seen, is_recent
from flexinfer.state.leases import leased_on
from flexinfer.state.observed import STALE_SECONDS, ObservedState, Sample


class Telemetry:
    """The state as it was last observed, for what a grant is checked against and what is noted with it."""

    def __init__(self) -> None:
        self._state = ObservedState()
        self._granting: dict[str, asyncio.Lock] = {}

    def granting(self, node: str) -> asyncio.Lock:
        """Return what a grant holds from its reads to its write: the next one on the node reads what it wrote."""
        return self._granting.setdefault(node, asyncio.Lock())

    @property
    def nodes(self) -> Nodes:
        """The nodes as they were last observed."""
        return self._state.nodes

    def observe(self, state: ObservedState, _memory: None) -> None:
        """Take the state before a round of decisions."""
        self._state = state

    def sample(self, node: str) -> Sample | None:
        """Return the last sample of a node."""
        return self._state.gpus.get(node)

    def seen(self, node: str, uid: str, now: float) -> Seen:
        """Return what is seen of a node, for the holder of a uid."""
        pods = budget.pods_of_others(node, uid, self._state)
        pids = frozenset(leased_on(self._state, node))
        return Seen(sample=self.sample(node), now=now, pods=pods, pids=pids)

    def lease(self, lease: GPULease, group: SharedGroup) -> Member:
        """Return a lease on the devices of its group, as last observed."""
        return of_lease(lease, group, self._state)

    def has_room(self, member: Member, group: SharedGroup, now: float) -> bool:
        """Return whether a member fits on its devices beside all that are on the list of its group."""
        return budget.room(member, group, group.status.holders, self._state, now).fits

    def shares(self, member: Member, group: SharedGroup, now: float) -> bool:
        """Return whether others may hold a member's devices too."""
        return not budget.alone(member, group, self._state, now)

    def may_leave(self, holder: Holder, member: Member, group: SharedGroup, now: float) -> bool:
        """Return whether a holder may be made to leave for a member, by what was last observed of both."""
        return preemption.leave(holder, member, group, self._state, now).allowed

    def away_seconds(self, member: Member, now: float) -> int | None:
        """Return for how long a member has been away that had to leave, by what was last observed; None for any other."""
        return preemption.away_seconds(member, self._state, now)

    def is_awaited(self, member: Member, now: float) -> bool:
        """Return whether a sample of a member's devices may still come: agents publish every 10 s, and NATS was just connected.

        Without one it is not known what others use, and the memory of a foreign process would count as the holder's.
        """
        sample, since = self.sample(member.placement.node), self._state.connected_since
        return (
            bool(member.placement.devices)
            and not is_recent(sample, now)
            and since is not None
            and now < since + STALE_SECONDS
        )
