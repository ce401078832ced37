"""After the faults have ended, nothing waits past its deadline."""

from typing import Any

from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law

_SLACK = 6.0
"""For the control loop, a change of the leader, and the resync after a loss; in seconds."""


class Waits(Law):
    """Judges for how long each Model has had a condition with a deadline."""

    kinds = ("models",)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._waits: dict[str, dict[tuple[str, str], float]] = {}  # uid -> type and reason -> since when

    def written(self, change: Change) -> None:
        """Note what a Model waits for from now on."""
        if change.new is None:
            if change.old is not None:
                self._waits.pop(change.old["metadata"]["uid"], None)
            return
        uid, deadlines = change.new["metadata"]["uid"], self.checker.deadlines
        conditions = (change.new.get("status") or {}).get("conditions") or ()
        reasons = {(c["type"], c["reason"]) for c in conditions}
        previous = self._waits.get(uid, {})
        self._waits[uid] = {wait: previous.get(wait, self.now) for wait in sorted(reasons & set(deadlines))}

    def restarts(self) -> None:
        """Restart the time of every wait."""
        for waits in self._waits.values():
            waits.update(dict.fromkeys(waits, self.now))

    def passes(self) -> None:
        """Judge how long each Model waits."""
        for uid, waits in self._waits.items():
            for (kind, reason), since in waits.items():
                waited = self.now - since
                if waited > self.checker.deadlines[kind, reason] + _SLACK:
                    self.report(f"the Model {uid} has been {kind}/{reason} for {waited:.0f} s")
                    waits[kind, reason] = self.now
