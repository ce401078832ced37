"""`python -m flexinfer.launcher`."""

import contextlib
import functools
from collections.abc import Callable

from flexinfer.api.services import SERVICES
from flexinfer.launcher.decide import decide
from flexinfer.launcher.effects import Effect
from flexinfer.launcher.keys import touched, touched_by
from flexinfer.launcher.memory import EngineProbed, Memory, forget, remember
from flexinfer.launcher.perform import perform
from flexinfer.launcher.probe import Ask, Prober, http_client
from flexinfer.launcher.settings import settings_of
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(
    settings: Settings, opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = http_client
) -> Controller[Effect, EngineProbed, Memory]:
    """Return the launcher's controller; `opened` gives the client that engines are probed with."""
    prober = Prober(opened)
    launch_settings = settings_of(settings)
    return Controller(
        name="launcher",
        decide=functools.partial(decide, settings=launch_settings),
        perform=functools.partial(perform, settings=launch_settings),
        subscriptions=subscriptions_of(SERVICES["launcher"]),
        memory=Memory(),
        touched=touched,
        touched_by=touched_by,
        remember=remember,
        forget=forget,
        observe=prober.observe,
        companions=(prober.watch,),
    )


RUNNABLE = runnable_of("launcher", controller)


def boot() -> None:
    """Run the launcher until SIGTERM."""
    run_all([RUNNABLE])


if __name__ == "__main__":
    boot()
