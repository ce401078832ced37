"""`python -m flexinfer.prefetcher`."""

import functools

from flexinfer.api.services import SERVICES
from flexinfer.prefetcher.decide import DeleteJob, EnsureJob, decide
from flexinfer.prefetcher.perform import perform, settings_of
from flexinfer.runtime.controller import Controller, stateless
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings
from flexinfer.state.touched import touches_its_model


def controller(settings: Settings) -> Controller[EnsureJob | DeleteJob, None, None]:
    """Return the prefetcher's controller."""
    return Controller(
        name="prefetcher",
        decide=stateless(functools.partial(decide, settings=settings_of(settings))),
        perform=perform,
        touched=touches_its_model,
        subscriptions=subscriptions_of(SERVICES["prefetcher"]),
        memory=None,
    )


RUNNABLE = runnable_of("prefetcher", controller)


def boot() -> None:
    """Run the prefetcher until SIGTERM."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
