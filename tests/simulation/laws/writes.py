"""Writes are bounded while something is wrong: a condition that says the same is not written again and again."""

from collections import deque
from typing import Any

from flexinfer.runtime.kubernetes.api import MODELS
from tests.simulation.laws.base import Call, Law

WRITES, SECONDS = 20, 60.0
"""How often in how many seconds a condition may be written with the same status, reason and generation."""


class Writes(Law):
    """Counts the status writes of each owner that change nothing but a message or a field."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._same: dict[tuple[str, str], tuple[tuple[Any, ...], deque[float]]] = {}

    def called(self, call: Call, answer: Any) -> None:
        """Judge a status write."""
        if call.kind is not MODELS or call.verb != "apply" or "status" not in call.body:
            return
        status = call.body["status"]
        condition = status["conditions"][0]
        says = (
            condition["status"],
            condition.get("reason"),
            condition.get("observedGeneration"),
            status.get("phase"),
        )
        previous, times = self._same.get((answer.uid, call.component), ((), deque()))
        if previous != says:
            times = deque()
        times.append(self.now)
        while times[0] < self.now - SECONDS:
            times.popleft()
        self._same[answer.uid, call.component] = (says, times)
        if len(times) > WRITES:
            times.clear()
            self.report(
                f"{call.component} wrote {condition['type']}={says[0]}/{says[1]} of {answer.key} more than "
                f"{WRITES} times in {SECONDS:.0f} s"
            )
