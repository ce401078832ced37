"""`python -m flexinfer.placer`."""

from flexinfer.api.services import SERVICES
from flexinfer.placer.decide import decide
from flexinfer.placer.keys import touched
from flexinfer.runtime.controller import Controller, no_effects, stateless
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings
from flexinfer.state.actions import WriteStatus


def controller(_settings: Settings) -> Controller[WriteStatus, None, None]:
    """Return the placer's controller; its only effects are status writes."""
    return Controller(
        name="placer",
        decide=stateless(decide),
        touched=touched,
        perform=no_effects,
        subscriptions=subscriptions_of(SERVICES["placer"]),
        memory=None,
    )


RUNNABLE = runnable_of("placer", controller)


def boot() -> None:
    """Run the placer until SIGTERM."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
