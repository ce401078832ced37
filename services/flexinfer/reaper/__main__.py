"""`python -m flexinfer.reaper`."""

from flexinfer.reaper.decide import decide
from flexinfer.reaper.perform import perform
from flexinfer.runtime.reactor import Service
from flexinfer.runtime.runtime import Interests
from flexinfer.runtime.service import run

SERVICE = Service(
    name="reaper",
    decide=decide,
    perform=perform,
    interests=Interests(live=("activity",), hints=("wake",), changed=("watcher", "placer", "prefetcher")),
)


def boot() -> None:
    """Run the reaper until told to stop."""
    run(SERVICE)


if __name__ == "__main__":
    boot()
