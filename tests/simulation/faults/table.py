"""All faults, by kind. One that shows a known weakness is off, and says which."""

from tests.simulation.faults import (
    api,
    clocks,
    engines,
    forged,
    machines,
    nats,
    objects,
    pods,
    processes,
    proxies,
    telemetry,
)
from tests.simulation.faults.base import Climate, Fault

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
FAULTS = tuple(fault for fault in ALL if not fault.off)
CLIMATES = tuple(climate for climate in ALL_CLIMATES if not climate.off)
