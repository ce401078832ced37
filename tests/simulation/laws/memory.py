"""A device is never over-committed: what its engines are expected to use, and what others use, is within its memory."""

from tests.simulation.agent import TOTAL_MB
from tests.simulation.engine import Engine
from tests.simulation.laws.base import Law
from tests.simulation.people import Played

RESERVE_MB = 512
"""What a group never gives out of a device."""


class Memory(Law):
    """Judges each engine as it begins to use memory.

    What an engine uses beyond its Model's estimate counts from the next grant on: a start does not know it.
    """

    def starts(self, engine: Engine) -> None:
        """Judge an engine that starts, at the node."""
        if not engine.group:
            return
        machines = self.checker.simulation.machines
        others = [
            e
            for e in machines.engines.values()
            if e is not engine and e.holds_memory and e.node == engine.node and e.holder != engine.holder
        ]
        for other in others:
            if other.group == engine.group and None in (other.estimate_mb, engine.estimate_mb):
                self.report(
                    f"two engines of {engine.group}, one of unknown memory: {engine.model} beside {other.model}"
                )
        self._expected([engine, *others])

    def plays(self, played: Played) -> None:
        """Judge the process of a lease that starts, at the node."""
        engines = self.checker.simulation.machines.engines.values()
        here = [e for e in engines if e.holds_memory and e.node == played.node]
        if here:
            self._expected(here)

    def _expected(self, engines: list[Engine]) -> None:
        node = engines[0].node
        played = self.checker.simulation.people.used_mb(node)
        foreign = self.checker.simulation.machines.agents[node].lies.foreign_mb + played
        used = [min(e.used_mb, e.estimate_mb or e.used_mb) for e in engines]
        alone = len(engines) == 1 and not played
        shared = len({engine.group for engine in engines}) == 1
        if not alone and sum(used) + foreign > TOTAL_MB - (RESERVE_MB if shared else 0):
            names = ", ".join(f"{e.model} {mb}" for e, mb in zip(engines, used, strict=True))
            self.report(f"the device of {node} has {TOTAL_MB} MiB: {names}, others {foreign}")
