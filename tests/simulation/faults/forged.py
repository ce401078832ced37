"""Messages that no component sends: a deletion that did not happen, bytes that are no event, hints."""

import asyncio
import random

from flexinfer.events import codec, events, subjects
from tests.simulation.faults.base import Climate, Fault
from tests.simulation.simulation import SERVICES, Simulation

_EARLIEST, _LATEST = 2.0, 24.0


def _publish(simulation: Simulation, subject: str, data: bytes, headers: dict[str, str]) -> None:
    simulation.nats.published, observers = [], simulation.nats.published
    simulation.nats.publish(subject, data, headers, "another")
    simulation.nats.published = observers


def deletion(simulation: Simulation, chance: random.Random) -> None:
    """Publish that a Model was deleted which was not, as of an older version."""
    _delete(simulation, chance, -1)


def later_deletion(simulation: Simulation, chance: random.Random) -> None:
    """Publish that a Model was deleted which was not, as of a version that it has not reached."""
    _delete(simulation, chance, 1)


def _delete(simulation: Simulation, chance: random.Random, newer: int) -> None:
    if models := simulation.models():
        model = models[chance.choice(sorted(models))]
        meta = model.metadata
        version = meta.version + newer
        event = events.ModelDeleted(namespace=meta.namespace, name=meta.name, uid=model.uid, version=version)
        simulation.record(f"a forged deletion of {meta.name}")
        subject = subjects.subject_of(event)
        _publish(simulation, subject, codec.encode(event), {"Flexinfer-Deleted": "true"})


def garbage(simulation: Simulation, chance: random.Random) -> None:
    """Publish bytes that are no event."""
    if models := simulation.models():
        event = events.ModelObserved(model=models[chance.choice(sorted(models))])
        simulation.record(f"a message that is no event about {event.model.key}")
        _publish(simulation, subjects.subject_of(event), b'{"type":', {})


def hint(simulation: Simulation, chance: random.Random) -> None:
    """Publish hints that mean nothing."""
    if models := simulation.models():
        model = models[chance.choice(sorted(models))]
        meta = model.metadata
        changed = events.StatusChanged(
            owner=chance.choice(SERVICES),
            namespace=meta.namespace,
            name=meta.name,
            uid=model.uid,
            version=meta.version + 100,
        )
        ready = events.EngineReady(namespace=meta.namespace, name=meta.name, uid=model.uid)
        for event in (changed, ready):
            _publish(simulation, subjects.subject_of(event), codec.encode(event), {})


def later_deletions(simulation: Simulation, chance: random.Random) -> None:
    """Publish deletions of Models as of versions that these have not reached, a few times."""
    for _ in range(chance.randint(1, 4)):
        at = chance.uniform(_EARLIEST, _LATEST)
        asyncio.get_running_loop().call_later(at, later_deletion, simulation, random.Random(chance.random()))


OWN = (Climate("forged deletions of a later version", 0.2, later_deletions),)
FAULTS = (
    Fault("a forged deletion", 0.5, deletion),
    Fault("a message that is no event", 0.2, garbage),
    Fault("a forged hint", 0.3, hint),
)
