"""`python -m flexinfer.arbiter`."""

import functools

from flexinfer.api.services import SERVICES
from flexinfer.arbiter.decide import Advance, Grant, decide
from flexinfer.arbiter.perform import perform
from flexinfer.runtime.controller import Controller, everything, on_everything, touches_everything
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(settings: Settings) -> Controller[Grant | Advance, None, None]:
    """Return the arbiter's controller."""
    with_settings = functools.partial(
        decide, drain_seconds=settings.drain_seconds, memory_free_seconds=settings.memory_free_seconds
    )
    return Controller(
        name="arbiter",
        decide=on_everything(with_settings),
        keys=everything,
        touched=touches_everything,
        perform=perform,
        subscriptions=subscriptions_of(SERVICES["arbiter"]),
        memory=None,
    )


RUNNABLE = runnable_of("arbiter", controller)


def boot() -> None:
    """Run the arbiter until SIGTERM."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
