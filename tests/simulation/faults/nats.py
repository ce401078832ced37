"""NATS: messages lost, doubled and late; connections cut; a server that ends, hangs, is full, wiped or rolled back."""

import asyncio
import random

from tests.simulation.faults.base import Climate, Fault
from tests.simulation.jetstream.server import Chances
from tests.simulation.simulation import SERVICES, Simulation


def cut(simulation: Simulation, chance: random.Random) -> None:
    """Cut a component off NATS for some seconds."""
    name, seconds = chance.choice((*SERVICES, "reaper", "proxy")), chance.choice([1.0, 8.0, 20.0])
    member = simulation.members.get(name)
    if member is not None:
        simulation.record(f"cut {name} off NATS for {seconds:.0f} s")
        simulation.lose_reports(seconds, name)
        member.client.cut(seconds)


def restart(simulation: Simulation, chance: random.Random) -> None:
    """Restart the server: what is in memory is lost."""
    seconds = chance.choice([0.5, 4.0, 12.0])
    simulation.record(f"NATS is away for {seconds} s")
    simulation.lose_reports(seconds)
    simulation.nats.stop()
    asyncio.get_running_loop().call_later(seconds, simulation.nats.start)


def freeze(simulation: Simulation, chance: random.Random) -> None:
    """Let the server hang: connections stand, and nothing moves."""
    seconds = chance.choice([3.0, 8.0])
    simulation.record(f"NATS hangs for {seconds:.0f} s")
    simulation.lose_reports(seconds)
    simulation.nats.frozen_until = simulation.clock() + seconds


def fill(simulation: Simulation, chance: random.Random) -> None:
    """Let the disk of the server be full for some seconds."""
    seconds = chance.choice([5.0, 25.0])
    simulation.record(f"NATS has no space for {seconds:.0f} s")
    simulation.nats.full_until = simulation.clock() + seconds


def wipe(simulation: Simulation, _chance: random.Random) -> None:
    """Lose the state stream."""
    simulation.record("wipe the stream")
    simulation.lose_reports(1.0)
    simulation.nats.wipe()


def roll_back(simulation: Simulation, _chance: random.Random) -> None:
    """Return to an older copy of the state stream."""
    simulation.record("roll the stream back")
    simulation.lose_reports(1.0)
    simulation.nats.roll_back()


def lag(simulation: Simulation, chance: random.Random) -> None:
    """Let what a component receives lag behind; it keeps its order."""
    name = chance.choice(SERVICES)
    if name in simulation.members:
        simulation.record(f"what {name} receives lags")
        simulation.members[name].client.lag = chance.choice([0.5, 2.0])


def step(simulation: Simulation, chance: random.Random) -> None:
    """Step the server's own clock."""
    simulation.nats.step = chance.choice([-3600.0, -40.0, 60.0])
    simulation.record(f"the clock of NATS steps by {simulation.nats.step:.0f} s")


def messages(simulation: Simulation, chance: random.Random) -> None:
    """Draw how messages fare."""
    simulation.nats.faults = Chances(
        lost=chance.choice([0, 0.05, 0.3]),
        gap=chance.choice([0, 0, 0.02]),
        doubled=chance.choice([0, 0.2]),
        late=chance.choice([0, 0.5, 3]),
        unacknowledged=chance.choice([0, 0, 0.03]),
    )


FAULTS = (
    Fault("cut off NATS", 1.2, cut),
    Fault("restart NATS", 0.4, restart),
    Fault("hang NATS", 0.2, freeze),
    Fault("fill the disk of NATS", 0.2, fill),
    Fault("wipe the stream", 0.3, wipe),
    Fault("roll the stream back", 0.3, roll_back),
    Fault("lag", 0.3, lag),
    Fault("step the clock of NATS", 0.2, step, shows="the clock of NATS"),
)
CLIMATES = (Climate("messages", 1.0, messages),)
