"""After the faults have ended, nothing waits past its deadline.

An engine that was loading when it had to stop is not loading any more: Ready says what it was until it has stopped, or
until that takes longer than a Pod may take to end. The deadline is then that of a stop, from the moment that it must.
"""

from collections.abc import Iterator
from typing import Any

from flexinfer.api import conditions, reasons
from flexinfer.api.reasons import Reason
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law, Object
from tests.simulation.laws.facts import condition, is_kept_waiting

_FOR_DEVICES = (Reason.QUEUED, Reason.FIRST_START_QUEUED)
_WAITS_FOR_DEVICES = (Reason.QUEUED, Reason.PREEMPTED, Reason.BLOCKED)
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
        waits, previous = set(_waits(change.new)), self._waits.get(uid, {})
        self._waits[uid] = {wait: previous.get(wait, self.now) for wait in sorted(waits & set(deadlines))}

    def restarts(self) -> None:
        """Restart the time of every wait."""
        for waits in self._waits.values():
            waits.update(dict.fromkeys(waits, self.now))

    def passes(self) -> None:
        """Judge how long each Model waits."""
        for uid, waits in self._waits.items():
            kept = self._is_kept_waiting(uid)
            for (kind, reason), since in waits.items():
                if kept and reason in _FOR_DEVICES:
                    waits[kind, reason] = self.now
                    continue
                waited = self.now - since
                if waited > self.checker.deadlines[kind, reason] + _SLACK:
                    self.report(f"the Model {uid} has been {kind}/{reason} for {waited:.0f} s")
                    waits[kind, reason] = self.now

    def _is_kept_waiting(self, uid: str) -> bool:
        """Return whether a Model waits for one that always runs: that has no end, and the message names it."""
        models = self.checker.models
        return uid in models and is_kept_waiting(models[uid], models.values())


def _waits(model: Object) -> Iterator[tuple[str, str]]:
    """Yield the condition type and reason of each thing that a Model waits for.

    One that is being deleted waits for its stop alone: nothing is fetched or checked for it any more, and its Cached stays
    as it was, of the generation before the deletion, where it counts as Unknown.
    """
    for said in (model.get("status") or {}).get("conditions") or ():
        if said["type"] == conditions.CACHED and "deletionTimestamp" in model["metadata"]:
            continue
        loads = said["type"] == conditions.READY and said["reason"] in reasons.LOADING
        first = (said["type"], said["reason"]) == (conditions.WANTED, Reason.FIRST_START)
        if first and condition(model, conditions.GRANTED).get("reason") in _WAITS_FOR_DEVICES:
            yield conditions.WANTED, Reason.FIRST_START_QUEUED
        else:
            yield said["type"], Reason.STOPPING if loads and _must_stop(model) else said["reason"]


def _must_stop(model: Object) -> bool:
    """Return whether the engine of a Model must not run: it is deleted, not wanted, or gives its device back."""
    gates = [condition(model, kind).get("status") for kind in (conditions.WANTED, conditions.GRANTED)]
    return "deletionTimestamp" in model["metadata"] or conditions.FALSE in gates
