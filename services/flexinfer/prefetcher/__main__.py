"""`python -m flexinfer.prefetcher`."""

from flexinfer.contracts import subjects
from flexinfer.prefetcher.decide import decide
from flexinfer.prefetcher.perform import perform, terms_of
from flexinfer.runtime.reactor import Service
from flexinfer.runtime.runtime import Interests
from flexinfer.runtime.service import run

SERVICE = Service(
    name="prefetcher",
    decide=decide,
    perform=perform,
    interests=Interests(state=("model", "workload"), changed=subjects.CHANGED_RECEIVERS["prefetcher"]),
    options=lambda settings: {"terms": terms_of(settings)},
)


def boot() -> None:
    """Run the prefetcher until told to stop."""
    run(SERVICE)


if __name__ == "__main__":
    boot()
