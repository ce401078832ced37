"""`python -m flexinfer.placer`."""

import msgspec

from flexinfer.api.services import SERVICES
from flexinfer.placer.decide import decide
from flexinfer.placer.keys import touched
from flexinfer.runtime.controller import Controller, no_effects, stateless
from flexinfer.runtime.process import runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings
from flexinfer.state.actions import WriteStatus


def controller(settings: Settings) -> Controller[WriteStatus, None, None]:
    """Return the placer's controller; its only effects are status writes. With a port for it, it serves the scheduler extender too."""
    alone: Controller[WriteStatus, None, None] = Controller(
        name="placer",
        decide=stateless(decide),
        touched=touched,
        perform=no_effects,
        subscriptions=subscriptions_of(SERVICES["placer"]),
        memory=None,
    )
    if not settings.extender_port:
        return alone
    # A web server is memory that a placer without an extender need not spend.
    from flexinfer.placer.extender_server import ExtenderServer  # noqa: PLC0415

    extender = ExtenderServer()
    return msgspec.structs.replace(alone, follow=extender.follow, companions=(extender.serve,))


RUNNABLE = runnable_of("placer", controller)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
