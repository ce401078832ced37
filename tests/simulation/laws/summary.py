"""Phase, reason and message agree with the conditions in every version of a Model that their owner writes."""

from typing import Any

import msgspec

from flexinfer.api.conditions import ACCEPTED
from flexinfer.api.model import Model
from flexinfer.api.phase import phase_of, summaries
from flexinfer.api.services import OWNERS
from flexinfer.runtime.kubernetes.api import MODELS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law


class Summary(Law):
    """Judges what each status write of the watcher leaves to read for people."""

    kinds = ("models",)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._last: Change | None = None

    def written(self, change: Change) -> None:
        """Keep the last write of a Model: its call is judged next."""
        self._last = change

    def called(self, call: Call, answer: Any) -> None:
        """Judge a status write."""
        last, self._last = self._last, None
        if call.kind is not MODELS or call.verb != "apply" or last is None or last.new is None:
            return
        if call.component != OWNERS[ACCEPTED]:
            return
        model = msgspec.convert({"apiVersion": "", "kind": "Model", **last.new}, Model)
        status, generation = model.status, model.metadata.generation
        agrees = (status.reason, status.message) in summaries(status.conditions, generation)
        if not agrees or status.phase != phase_of(status.conditions, generation):
            self.report(
                f"{call.component} left {status.phase}/{status.reason}, which the conditions contradict"
            )
