"""A gate opens only for a Model that exists, and in a group only while its object grants this uid this turn.

At that moment the turn is `Granted` or already `Releasing`, never later (DESIGN 6, step 6).
"""

from typing import Any

from flexinfer.api.labels import MODEL_UID_LABEL, TURN_LABEL
from flexinfer.api.sharedgroup import GRANTED, RELEASING
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law, Object
from tests.simulation.laws.facts import GROUP_KIND, Grant, gates, grants_of


class Gates(Law):
    """Judges every Pod whose gate is removed, and every Pod that never had one."""

    kinds = ("pods", GROUP_KIND)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._grants: dict[tuple[str, str], dict[str, Grant]] = {}

    def written(self, change: Change) -> None:
        """Judge a Pod, or note what a group's object grants."""
        if change.group_resource[1] == GROUP_KIND:
            self._grants[change.key] = dict(grants_of(change.new))
            return
        old, new = change.old, change.new
        if new is None or gates(new) or (old is not None and not gates(old)):
            return
        labels = new["metadata"].get("labels") or {}
        if TURN_LABEL in labels:
            self._opened(new, labels[MODEL_UID_LABEL], int(labels[TURN_LABEL]))

    def _opened(self, pod: Object, uid: str, turn: int) -> None:
        name = pod["metadata"]["name"]
        if uid not in self.checker.models:
            self.report(f"the gate of {name} was removed for a Model that does not exist")
        if not turn:
            return
        held = [grants[uid] for grants in self._grants.values() if uid in grants]
        if not any(grant.turn == turn and grant.step in (GRANTED, RELEASING) for grant in held):
            states = ", ".join(f"turn {g.turn} is {g.step}" for g in held) or "nothing is granted"
            self.report(f"the gate of {name} was removed for turn {turn} of {uid}, but {states}")
