"""One effect of a key at a time: a replica has at most one write of a Model's status in progress."""

from collections import Counter
from typing import Any

from flexinfer.runtime.kubernetes.api import MODELS
from tests.simulation.laws.base import Call, Law


class Overlap(Law):
    """Judges the writes that a replica has begun and not ended."""

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._begun: Counter[tuple[str, str, str]] = Counter()

    def begins(self, call: Call) -> None:
        """Judge the beginning of a write."""
        if call.kind is MODELS and call.verb == "apply":
            key = (call.identity, call.namespace, call.name)
            self._begun[key] += 1
            if self._begun[key] > 1:
                self.report(f"{call.identity} writes the status of {call.name} twice at a time")

    def ends(self, call: Call) -> None:
        """Note the end of a write."""
        if call.kind is MODELS and call.verb == "apply":
            self._begun[call.identity, call.namespace, call.name] -= 1
