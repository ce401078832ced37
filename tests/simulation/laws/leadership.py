"""A replica sends a write only while its own Lease says that it may act."""

from flexinfer.runtime.leader_election import ACT_SECONDS
from tests.simulation.laws.base import Call, Law


class Leadership(Law):
    """Judges each write of a component with leader election as it leaves its process."""

    def sends(self, call: Call) -> None:
        """Judge the replica that sends a write."""
        simulation = self.checker.simulation
        if not simulation.fenced:
            return
        holder = simulation.leases.holder(call.component)
        renewed = simulation.leases.renewed(call.component, self.now)
        if holder != call.identity:
            self.report(f"{call.identity} writes while {holder or 'no replica'} is the leader")
        elif renewed > ACT_SECONDS + 0.5:
            self.report(f"{call.identity} writes {renewed:.1f} s after its last renewal")
