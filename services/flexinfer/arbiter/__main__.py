"""`python -m flexinfer.arbiter`."""

import functools

from flexinfer.api.services import SERVICES
from flexinfer.arbiter.decide import decide
from flexinfer.arbiter.effects import Effect
from flexinfer.arbiter.keys import keys, touched
from flexinfer.arbiter.perform import perform
from flexinfer.arbiter.sampling import SampleHints
from flexinfer.arbiter.telemetry import Telemetry
from flexinfer.runtime.controller import Controller, stateless
from flexinfer.runtime.process import runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(settings: Settings) -> Controller[Effect, None, None]:
    """Return the arbiter's controller."""
    with_settings = functools.partial(
        decide, drain_seconds=settings.drain_seconds, memory_free_seconds=settings.memory_free_seconds
    )
    telemetry, hints = Telemetry(), SampleHints()
    return Controller(
        name="arbiter",
        decide=stateless(with_settings),
        keys=keys,
        touched=touched,
        perform=functools.partial(perform, telemetry=telemetry),
        observers=(telemetry.observe, hints.observe),
        companions=(hints.run,),
        subscriptions=subscriptions_of(SERVICES["arbiter"]),
        memory=None,
    )


RUNNABLE = runnable_of("arbiter", controller)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
