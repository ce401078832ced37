"""`python -m flexinfer.launcher`."""

import contextlib
import functools
from collections.abc import Callable

from flexinfer.api.services import SERVICES
from flexinfer.launcher.audit import ServiceAudit
from flexinfer.launcher.decide import decide
from flexinfer.launcher.effects import Effect
from flexinfer.launcher.engine_client import Ask, http_client
from flexinfer.launcher.fence import Fences
from flexinfer.launcher.keys import touched, touched_by
from flexinfer.launcher.load_watch import LoadWatch
from flexinfer.launcher.memory import Fact, Memory, forget, remember
from flexinfer.launcher.perform import perform
from flexinfer.launcher.pods_gone import PodsGone
from flexinfer.launcher.probe import Prober
from flexinfer.launcher.start_settings import settings_of
from flexinfer.runtime.controller import Controller, model_keys
from flexinfer.runtime.process import runnable_of
from flexinfer.runtime.runtime import subscriptions_of
from flexinfer.runtime.settings import Settings


def controller(
    settings: Settings, open_client: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = http_client
) -> Controller[Effect, Fact, Memory]:
    """Return the launcher's controller; `open_client` gives the client that engines are probed with."""
    launch_settings = settings_of(settings)
    prober, pod_deletions, audit = Prober(open_client), PodsGone(), ServiceAudit(launch_settings)
    loads = LoadWatch()
    return Controller(
        name="launcher",
        decide=functools.partial(decide, settings=launch_settings),
        perform=functools.partial(
            perform, settings=launch_settings, pod_deletions=pod_deletions, fences=Fences()
        ),
        subscriptions=subscriptions_of(SERVICES["launcher"]),
        memory=Memory(),
        touched=lambda before, after, event: prober.touch(touched(before, after, event)),
        touched_by=lambda state, fact: prober.touch(touched_by(state, fact)),
        keys=lambda state: prober.touch(model_keys(state)),
        remember=remember,
        forget=forget,
        observers=(prober.observe, pod_deletions.observe, audit.observe, loads.observe),
        companions=(prober.watch, audit.watch, loads.watch),
    )


RUNNABLE = runnable_of("launcher", controller)
boot = RUNNABLE.boot


if __name__ == "__main__":
    boot()
