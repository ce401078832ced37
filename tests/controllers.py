"""Run controllers of localkube step by step."""

from collections.abc import Sequence

from localkube.controllers.workqueue import Controller

_MOST_ROUNDS = 10_000


def run_until_quiet(controllers: Sequence[Controller]) -> None:
    """Run steps until no controller has work left. Raises RuntimeError if there is no end."""
    for _ in range(_MOST_ROUNDS):
        if not any(controller.step() for controller in controllers):
            return
    raise RuntimeError(f"controllers keep undoing each other's work: not done after {_MOST_ROUNDS} rounds")
