"""The API server: calls that fail, are slow, lose their answer or arrive late; watches that end, expire, lag or lie."""

import random

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.simulation import Simulation


def away(simulation: Simulation, chance: random.Random) -> None:
    """Let every call fail for some seconds."""
    seconds = chance.choice([1.0, 3.0, 7.0])
    simulation.record(f"the API server is away for {seconds:.0f} s")
    simulation.api.away_until = simulation.clock() + seconds


def calls(simulation: Simulation, chance: random.Random) -> None:
    """Draw how calls fare."""
    api = simulation.api
    api.refused = chance.choice([0, 0.02, 0.1])
    api.unanswered = chance.choice([0, 0.01, 0.03])
    api.late = chance.choice([0, 0.01, 0.05])
    api.slow = chance.choice([0, 0.02, 0.1])


def watches(simulation: Simulation, chance: random.Random) -> None:
    """Draw how watches fare."""
    api = simulation.api
    api.watch_ends = chance.choice([0, 0.05])
    api.watch_expires = chance.choice([0, 0.05])
    api.watch_silent = chance.choice([0, 0, 0.02])
    api.watch_loses = chance.choice([0, 0.05])
    api.watch_lags = chance.choice([0, 0.1])


def losing(simulation: Simulation, chance: random.Random) -> None:
    """Let watches lose events, and nothing else."""
    simulation.api.watch_loses = chance.choice([0.05, 0.2])


def coalescing(simulation: Simulation, chance: random.Random) -> None:
    """Let several changes of an object arrive as one."""
    simulation.api.watch_coalesces = chance.choice([0.1, 0.4])


APART = (Climate("watches that coalesce", 0.2, coalescing),)
FAULTS = (Fault("the API server is away", 0.4, away),)
CLIMATES = (
    Climate("calls", 0.4, calls),
    Climate("watches", 0.35, watches),
    Climate("watches that lose", 0.15, losing),
)
