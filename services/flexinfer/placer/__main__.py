"""`python -m flexinfer.placer`."""

from flexinfer.placer.decide import decide
from flexinfer.runtime.reactor import Service, no_effects
from flexinfer.runtime.runtime import Interests
from flexinfer.runtime.service import run

SERVICE = Service(
    name="placer",
    decide=decide,
    perform=no_effects,
    interests=Interests(live=("gpu",), changed=("watcher",)),
)


def boot() -> None:
    """Run the placer until told to stop."""
    run(SERVICE)


if __name__ == "__main__":
    boot()
