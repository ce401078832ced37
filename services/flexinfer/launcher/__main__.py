"""`python -m flexinfer.launcher`."""

import contextlib
from collections.abc import Callable

from flexinfer.contracts import subjects
from flexinfer.launcher.decide import decide
from flexinfer.launcher.perform import perform, terms_of
from flexinfer.launcher.probing import Ask, Prober, asking
from flexinfer.runtime.reactor import Service
from flexinfer.runtime.runtime import Interests
from flexinfer.runtime.service import run


def service(opened: Callable[[], contextlib.AbstractAsyncContextManager[Ask]] = asking) -> Service:
    """Return the launcher; `opened` gives the client that engines are asked with."""
    prober = Prober(opened)
    return Service(
        name="launcher",
        decide=prober.heard(decide),
        perform=perform,
        interests=Interests(live=("activity",), changed=subjects.CHANGED_RECEIVERS["launcher"]),
        companions=(prober.watch,),
        options=lambda settings: {"terms": terms_of(settings)},
    )


SERVICE = service()


def boot() -> None:
    """Run the launcher until told to stop."""
    run(SERVICE)


if __name__ == "__main__":
    boot()
