"""Phase, reason and message agree with the conditions in every version of a Model that their owner writes.

Except where an API server that was restored from a backup gives out a resourceVersion again: a write decided on the Model that had it in the former
life passes the check for conflicts, and is corrected once the watch shows the present one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from flexinfer.api import conditions
from flexinfer.api.conditions import ACCEPTED, Condition
from flexinfer.api.model import Model
from flexinfer.api.phase import cause_of, described, explain, phase_of
from flexinfer.api.services import OWNERS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Object, StatusWriteLaw

if TYPE_CHECKING:
    from tests.simulation.checker import Checker


class Summary(StatusWriteLaw):
    """Judges what each status write of the watcher leaves to read for people."""

    def __init__(self, checker: "Checker") -> None:
        super().__init__(checker)
        self._latest = self._given_again = 0

    def restored(self) -> None:
        """Note up to which version those of the former life are given out again."""
        self._given_again = self._latest

    def written(self, change: Change) -> None:
        """Keep the write, and the latest version of any Model."""
        super().written(change)
        written = change.new or change.old or {}
        self._latest = max(self._latest, int(written["metadata"]["resourceVersion"]))

    def judge(self, component: str, before: Object | None, after: Object) -> None:
        """Compare it with the conditions beside it."""
        version = int(before["metadata"]["resourceVersion"]) if before is not None else 0
        if component != OWNERS[ACCEPTED] or version <= self._given_again:
            return
        model = msgspec.convert({"apiVersion": "", "kind": "Model", **after}, Model)
        status, generation = model.status, model.metadata.generation
        agrees = (status.reason, status.message) in summaries(status.conditions, generation)
        if not agrees or status.phase != phase_of(status.conditions, generation):
            self.report(f"{component} left {status.phase}/{status.reason}, which the conditions contradict")


def summaries(written: Sequence[Condition], generation: int) -> set[tuple[str, str]]:
    """Return what `status.reason` and `status.message` may be of these conditions: what holds the Model up, or a condition before that."""
    cause = cause_of(written, generation)
    kinds = conditions.CONDITIONS
    before = kinds[: kinds.index(cause.type)] if cause.condition is None else ()
    quotes = {(c.reason, described(c)) for c in written if c.type in before}
    return {
        (reason, conditions.one_line(message))
        for reason, message in {(cause.reason, explain(written, generation)), *quotes}
    }
