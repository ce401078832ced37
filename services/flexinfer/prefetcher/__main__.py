"""`python -m flexinfer.prefetcher`."""

import functools

from flexinfer.api.services import SERVICES
from flexinfer.prefetcher.decide import DeleteJob, EnsureJob, decide, write_of
from flexinfer.prefetcher.memory import Fact, Memory, forget, remember
from flexinfer.prefetcher.perform import perform, settings_of
from flexinfer.prefetcher.slots import touched, touched_by
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(settings: Settings) -> Controller[EnsureJob | DeleteJob, Fact, Memory]:
    """Return the prefetcher's controller."""
    return Controller(
        name="prefetcher",
        decide=functools.partial(decide, settings=settings_of(settings)),
        perform=perform,
        status_write=write_of,
        touched=touched,
        touched_by=touched_by,
        remember=remember,
        forget=forget,
        subscriptions=subscriptions_of(SERVICES["prefetcher"]),
        memory=Memory(),
    )


RUNNABLE = runnable_of("prefetcher", controller)


def boot() -> None:
    """Run the prefetcher until SIGTERM."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
