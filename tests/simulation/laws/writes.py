"""Writes are bounded while something is wrong: a condition that says the same is not written again and again."""

from collections import deque
from typing import Any

from flexinfer.runtime.kubernetes.api import MODELS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law
from tests.simulation.laws.facts import GROUP_KIND, grants_of

WRITES, SECONDS = 20, 60.0
"""How often in how many seconds a condition may be written with the same status, reason and generation."""


class Writes(Law):
    """Counts the status writes of each owner that change nothing but a message or a field.

    What a Model waits for changes with each step of a lease in a group: such a step allows one more. While a replica acts that was paused
    past its Lease, it and its successor write in turn what each has observed; that lasts a moment, and is not counted.
    """

    kinds = (GROUP_KIND,)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._steps: deque[float] = deque()  # of groups with a lease
        self._same: dict[tuple[str, str], tuple[tuple[Any, ...], deque[float]]] = {}

    def written(self, change: Change) -> None:
        """Note a step of a group in which a lease is."""
        holders = (grants_of(change.old), grants_of(change.new))
        if any(grant.lease for grants in holders for grant in grants.values()):
            self._steps.append(self.now)

    def called(self, call: Call, answer: Any) -> None:
        """Judge a status write."""
        if call.kind is not MODELS or call.verb != "apply" or "status" not in call.body:
            return
        if any(
            r.name == call.component and self.now < r.blind_until for r in self.checker.simulation.replicas
        ):
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
        if len(times) > WRITES + sum(at >= times[0] for at in self._steps):
            times.clear()
            self.report(
                f"{call.component} wrote {condition['type']}={says[0]}/{says[1]} of {answer.key} more than "
                f"{WRITES} times in {SECONDS:.0f} s"
            )
