"""`python -m flexinfer.launcher`."""

import contextlib
import functools
from collections.abc import Callable

from flexinfer.api.services import SERVICES
from flexinfer.launcher.decide import Effect, decide
from flexinfer.launcher.memory import EngineProbed, Memory, fold, forget
from flexinfer.launcher.perform import perform, settings_of
from flexinfer.launcher.probing import Ask, Prober, asking
from flexinfer.runtime.controller import Controller
from flexinfer.runtime.process import run_all, runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(
    settings: Settings, opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = asking
) -> Controller[Effect, EngineProbed, Memory]:
    """Return the launcher's controller; `opened` gives the client that engines are probed with."""
    prober = Prober(opened)
    return Controller(
        name="launcher",
        decide=functools.partial(decide, settings=settings_of(settings)),
        perform=perform,
        subscriptions=subscriptions_of(SERVICES["launcher"]),
        memory=Memory(),
        fold=fold,
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
