"""Engines: slow, never ready, killed for memory, or stuck."""

import random

from tests.simulation.engine import Behaviour, Engine
from tests.simulation.faults.base import Climate, Fault
from tests.simulation.simulation import Simulation


def behave(simulation: Simulation, chance: random.Random) -> None:
    """Draw how engines behave."""
    simulation.machines.behaviour = Behaviour(
        loads=chance.choice([0.3, 2, 6, 13]),
        stops=chance.choice([0.1, 2, 8]),
        frees=chance.choice([0.0, 1, 6]),
        dies=chance.choice([0, 0, 0.3]),
        hangs=chance.choice([0, 0, 0, 0.2]),
        never_ready=frozenset({"default/c"} if chance.random() < 0.15 else ()),
        ignores_sigterm=frozenset({"default/a"} if chance.random() < 0.1 else ()),
        grows=simulation.memory.choice([0.0, 0.0, 0.5]),
    )


def _running(simulation: Simulation) -> list[Engine]:
    return [e for e in simulation.machines.engines.values() if e.healthy and not e.ended]


def kill(simulation: Simulation, chance: random.Random) -> None:
    """Let an engine end, perhaps for its memory."""
    if engines := _running(simulation):
        engine = chance.choice(engines)
        pods = simulation.checker.pods.values()
        pod = next((pod for pod in pods if pod["metadata"]["uid"] == engine.pod), None)
        if pod is not None:
            simulation.record(f"the engine of {engine.model} ends")
            kubelet = simulation.machines.kubelets[engine.node]
            reason = chance.choice(["OOMKilled", "Error"])
            simulation.machines.run(kubelet.die(pod, engine, reason))


def hang(simulation: Simulation, chance: random.Random) -> None:
    """Let an engine hang: it answers no request, and does not end at SIGTERM."""
    if engines := _running(simulation):
        engine = chance.choice(engines)
        simulation.record(f"the engine of {engine.model} hangs")
        engine.healthy, engine.stuck = False, True


FAULTS = (Fault("an engine ends", 0.5, kill), Fault("an engine hangs", 0.3, hang))
CLIMATES = (Climate("engines", 1.0, behave),)
