"""`python -m flexinfer.reaper`."""

from flexinfer.api.services import SERVICES
from flexinfer.reaper.decide import RecordActivity, decide, status_write
from flexinfer.reaper.keys import touched, touched_by
from flexinfer.reaper.memory import Fact, Memory, forget, remember
from flexinfer.reaper.perform import compare_clocks, perform
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.process import runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(_settings: Settings) -> Controller[RecordActivity, Fact, Memory]:
    """Return the reaper's controller."""
    return Controller(
        name="reaper",
        decide=decide,
        perform=perform,
        status_write=status_write,
        touched=touched,
        touched_by=touched_by,
        subscriptions=subscriptions_of(SERVICES["reaper"]),
        memory=Memory(),
        remember=remember,
        forget=forget,
        companions=(compare_clocks,),
    )


RUNNABLE = runnable_of("reaper", controller)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
