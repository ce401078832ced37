"""Controllers of localkube under a test's own clock."""

from collections.abc import Sequence

from localkube.controllers.workqueue import Controller

_ENOUGH = 10_000


def run_until_quiet(controllers: Sequence[Controller]) -> None:
    """Take steps until no controller has anything to do."""
    for _ in range(_ENOUGH):
        if not any(controller.step() for controller in controllers):
            return
    raise RuntimeError(f"controllers undo each other's work: no end after {_ENOUGH} rounds")
