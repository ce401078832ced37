"""The object of a group goes through the steps of DESIGN 6 in their order, and its turn only increases."""

from typing import Any

from flexinfer.events.workload import FREED, GRANTED
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law
from tests.simulation.laws.facts import GROUP_KIND, NEXT, Grant, grants_of


class Turns(Law):
    """Judges each write of a group's object, one that was deleted and made again included."""

    kinds = (GROUP_KIND,)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._highest: dict[tuple[str, str], int] = {}

    def written(self, change: Change) -> None:
        """Judge a write of the object."""
        before, after = grants_of(change.old), grants_of(change.new)
        for uid, grant in after.items():
            former = before.get(uid)
            if former is None or former.turn != grant.turn:
                self._new_turn(change, grant)
            elif grant.step not in (former.step, NEXT[former.step]):
                self.report(f"the turn {grant.turn} of {grant.group} went from {former.step} to {grant.step}")
        for uid, grant in before.items():
            if change.new is not None and grant.step != FREED and uid not in after:
                self.report(f"turn {grant.turn} of {grant.group} changed its holder")

    def _new_turn(self, change: Change, grant: Grant) -> None:
        key = (change.key[0], grant.group)
        if grant.turn <= self._highest.get(key, 0):
            self.report(f"the turn of {grant.group} went from {self._highest[key]} to {grant.turn}")
        if change.old is not None and grant.step != GRANTED:
            self.report(f"the turn {grant.turn} of {grant.group} begins at {grant.step}")
        self._highest[key] = max(grant.turn, self._highest.get(key, 0))
