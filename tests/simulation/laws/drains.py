"""No request is cut by us before the drain deadline: an engine that answers is deleted drained, or after it."""

from typing import Any

from flexinfer.api import conditions
from flexinfer.api.reasons import Reason
from flexinfer.runtime.kubernetes.api import PODS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law, Object
from tests.simulation.laws.facts import condition

_EARLY = 0.05
"""By how much two clocks of one history may differ, in seconds."""


class Drains(Law):
    """Judges each deletion of a Pod by a component, against the requests that its engine has."""

    kinds = ("models",)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._unready_at: dict[str, float] = {}  # uid -> since when Ready is not True

    def written(self, change: Change) -> None:
        """Note since when a Model is not Ready."""
        if change.new is None:
            return
        uid = change.new["metadata"]["uid"]
        if _is_ready(change.new):
            if change.old is not None and not _is_ready(change.old):
                self._unready_at.pop(
                    uid, None
                )  # a restored backup may have it from before a drain, which continues
        else:
            self._unready_at.setdefault(uid, self.now)

    def called(self, call: Call, _answer: Any) -> None:
        """Judge a deletion."""
        if call.kind is not PODS or call.verb != "delete":
            return
        simulation = self.checker.simulation
        engine = simulation.machines.engines.get(call.body["uid"])
        if engine is None or not engine.requests or engine.ended or engine.stuck or engine.stopping:
            return
        uid = engine.holder[0]
        model = self.checker.models.get(uid, {})
        if condition(model, conditions.PLACED).get("reason") == Reason.NODE_GONE:
            return
        drained = self.now - self._unready_at.get(uid, self.now)
        if drained < simulation.settings.drain_seconds - _EARLY:
            self.report(
                f"{len(engine.requests)} requests of {engine.model} were cut {drained:.1f} s after its drain began"
            )


def _is_ready(model: Object) -> bool:
    return condition(model, conditions.READY).get("status") == conditions.TRUE
