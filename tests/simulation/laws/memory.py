"""A device is never over-committed: one engine of a group at a time, and none starts while memory is in use."""

from tests.simulation.agent import TOTAL_MB
from tests.simulation.engine import USED_MB, Engine
from tests.simulation.laws.base import Law


class Memory(Law):
    """Judges each engine as it begins to use memory."""

    def starts(self, engine: Engine) -> None:
        """Judge an engine that starts, at the node."""
        if not engine.group:
            return
        machines = self.checker.simulation.machines
        others = [e for e in machines.engines.values() if e is not engine and e.holds_memory]
        for other in others:
            if other.group != engine.group or other.holder == engine.holder:
                continue
            if not other.ended:
                self.report(f"two engines of {engine.group}: {engine.model} beside {other.model}")
            elif other.node == engine.node:
                self.report(f"{engine.model} starts while {other.model} has the memory of {engine.group}")
        self._beside_strangers(engine, others)

    def _beside_strangers(self, engine: Engine, others: list[Engine]) -> None:
        machines = self.checker.simulation.machines
        foreign = machines.agents[engine.node].lies.foreign_mb
        strangers = [e for e in others if e.node == engine.node and e.group != engine.group]
        if strangers and len(strangers) * USED_MB + foreign + USED_MB > TOTAL_MB:
            groups = ", ".join(sorted({e.group for e in strangers}))
            self.report(f"the device of {engine.node} is given to {engine.group} beside {groups}")
