"""A device is never over-committed: what its engines are expected to use, and what others use, is within its memory."""

from tests.simulation.agent import TOTAL_MB
from tests.simulation.engine import Engine
from tests.simulation.laws.base import Law
from tests.simulation.people import Played

RESERVE_MB = 512
"""What a group never gives out of a device."""


class Memory(Law):
    """Judges each engine as it begins to use memory.

    What an engine uses beyond its Model's estimate counts from the next grant on: a start does not know it, nor a display that comes later.
    """

    def starts(self, engine: Engine) -> None:
        """Judge an engine that starts, at the node."""
        if not engine.group:
            return
        others = [
            e
            for e in self._holding()
            if e is not engine and e.node == engine.node and e.holder != engine.holder
        ]
        for other in others:
            if other.group == engine.group and None in (other.estimate_mb, engine.estimate_mb):
                self.report(
                    f"two engines of {engine.group}, one of unknown memory: {engine.model} beside {other.model}"
                )
        for device in engine.devices:
            self._expected(device, [engine, *(e for e in others if device in e.devices)])

    def plays(self, played: Played) -> None:
        """Judge the process of a lease that starts, at the node."""
        for device in played.devices:
            self._expected(device, [e for e in self._holding() if device in e.devices])

    def _holding(self) -> list[Engine]:
        return [e for e in self.checker.simulation.machines.engines.values() if e.holds_memory]

    def _expected(self, device: str, engines: list[Engine]) -> None:
        """Judge a device by the engines that are on it."""
        if not engines:
            return
        played = self.checker.simulation.people.used_mb(device)
        foreign = self.checker.simulation.machines.agents[engines[0].node].lies.foreign_mb + played
        used = [e.expected_on(device) for e in engines]
        alone = len(engines) == 1 and not played
        shared = len({engine.group for engine in engines}) == 1
        if not alone and sum(used) + foreign > TOTAL_MB - (RESERVE_MB if shared else 0):
            names = ", ".join(f"{e.model} {mb}" for e, mb in zip(engines, used, strict=True))
            self.report(f"{device} has {TOTAL_MB} MiB: {names}, others {foreign}")
