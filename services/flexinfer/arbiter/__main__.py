"""`python -m flexinfer.arbiter`."""

from flexinfer.arbiter.decide import decide
from flexinfer.arbiter.perform import perform
from flexinfer.runtime.reactor import Service
from flexinfer.runtime.runtime import Interests
from flexinfer.runtime.service import run

SERVICE = Service(
    name="arbiter",
    decide=decide,
    perform=perform,
    options=lambda settings: {
        "drain_seconds": settings.drain_seconds,
        "memory_free_seconds": settings.memory_free_seconds,
    },
    interests=Interests(live=("gpu",), changed=("reaper", "placer", "prefetcher", "launcher")),
)


def boot() -> None:
    """Run the arbiter until told to stop."""
    run(SERVICE)


if __name__ == "__main__":
    boot()
