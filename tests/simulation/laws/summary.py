"""Phase, reason and message agree with the conditions in every version of a Model that their owner writes."""

import msgspec

from flexinfer.api.conditions import ACCEPTED
from flexinfer.api.model import Model
from flexinfer.api.phase import phase_of, summaries
from flexinfer.api.services import OWNERS
from tests.simulation.laws.base import Object, StatusWriteLaw


class Summary(StatusWriteLaw):
    """Judges what each status write of the watcher leaves to read for people."""

    def judge(self, component: str, before: Object | None, after: Object) -> None:
        """Compare it with the conditions beside it."""
        if component != OWNERS[ACCEPTED]:
            return
        model = msgspec.convert({"apiVersion": "", "kind": "Model", **after}, Model)
        status, generation = model.status, model.metadata.generation
        agrees = (status.reason, status.message) in summaries(status.conditions, generation)
        if not agrees or status.phase != phase_of(status.conditions, generation):
            self.report(f"{component} left {status.phase}/{status.reason}, which the conditions contradict")
