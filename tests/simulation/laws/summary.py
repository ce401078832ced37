"""Phase, reason and message follow from the conditions in every version of a Model that a component writes."""

from typing import Any

import msgspec

from flexinfer.api.model import Model
from flexinfer.api.phase import summary_of
from flexinfer.runtime.kubernetes.api import MODELS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law


class Summary(Law):
    """Judges what each status write left to read for people."""

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
        model = msgspec.convert({"apiVersion": "", "kind": "Model", **last.new}, Model)
        status, wanted = model.status, summary_of(model.status.conditions, model.metadata.generation)
        if (status.phase, status.reason, status.message) != wanted:
            self.report(
                f"{call.component} left {status.phase}/{status.reason}, which the conditions contradict"
            )
