"""All faults, by kind. Those that show a weakness of the present code are not drawn."""

from tests.simulation.faults import (
    always_on,
    api,
    backups,
    clocks,
    devices,
    engines,
    forged,
    groups,
    machines,
    nats,
    objects,
    pods,
    processes,
    proxies,
    releases,
    sources,
    telemetry,
)
from tests.simulation.faults.base import Climate, Fault
from tests.simulation.weaknesses import shown

ALL: tuple[Fault, ...] = (
    *processes.FAULTS,
    *api.FAULTS,
    *nats.FAULTS,
    *proxies.FAULTS,
    *machines.FAULTS,
    *telemetry.FAULTS,
    *pods.FAULTS,
    *engines.FAULTS,
    *objects.FAULTS,
    *clocks.FAULTS,
    *forged.FAULTS,
)
ALL_CLIMATES: tuple[Climate, ...] = (
    *processes.CLIMATES,
    *api.CLIMATES,
    *nats.CLIMATES,
    *proxies.CLIMATES,
    *telemetry.CLIMATES,
    *engines.CLIMATES,
    *objects.CLIMATES,
)
ALL_APART: tuple[Climate, ...] = (*always_on.CLIMATES, *api.APART, *backups.CLIMATES)
"""Those that have their own chance: a history that does not draw them is the same without them."""
ALL_OWN: tuple[Climate, ...] = (
    *groups.CLIMATES,
    *devices.CLIMATES,
    *sources.CLIMATES,
    *machines.OWN,
    *releases.CLIMATES,
    *forged.OWN,
)
"""Those that draw from a stream of their own each, by the seed and their name: one that is added changes no history that does not draw it."""
FAULTS = tuple(fault for fault in ALL if shown(fault.shows))
CLIMATES = tuple(climate for climate in ALL_CLIMATES if shown(climate.shows))
APART = tuple(climate for climate in ALL_APART if shown(climate.shows))
OWN = tuple(climate for climate in ALL_OWN if shown(climate.shows))
