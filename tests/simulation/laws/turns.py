"""The object of a group goes through the steps of DESIGN 6 in their order, and its turn only increases."""

from collections import Counter
from typing import Any

from flexinfer.api.sharedgroup import GRANTED, ONE_AT_A_TIME, STOPPED
from localkube.apiserver.watch_cache import Change
from tests.simulation.agent import TOTAL_MB
from tests.simulation.laws.base import Law
from tests.simulation.laws.facts import GROUP_KIND, NEXT, Grant, grants_of, is_initialized, policy_of

_KNOWN_SECONDS = 60.0
"""After that every component has heard of a change, whatever was lost on the way."""


class Turns(Law):
    """Judges each write of a group's object, one that was deleted and made again included."""

    kinds = (GROUP_KIND, "models")

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._highest: dict[tuple[str, str], tuple[int, str]] = {}  # the turn, and whose
        self._exclusive: dict[str, float] = {}  # uid -> since when it requests its devices alone

    def restored(self) -> None:
        """Forget the turns: those since the backup were never given, and are given again."""
        self._highest.clear()

    def written(self, change: Change) -> None:
        """Judge a write of the object, or note one of a Model."""
        if change.group_resource[1] == "models":
            self._model(change)
            return
        before, after = grants_of(change.old), grants_of(change.new)
        looked = is_initialized(change.old)
        for uid, grant in after.items():
            former = before.get(uid)
            if former is None or former.turn != grant.turn:
                self._new_turn(change, grant, found=not looked)
            elif looked and grant.step not in (former.step, NEXT[former.step]):
                self.report(f"the turn {grant.turn} of {grant.group} went from {former.step} to {grant.step}")
        for uid, grant in before.items():
            if change.new is not None and grant.step != STOPPED and uid not in after:
                self.report(f"turn {grant.turn} of {grant.group} was given up while it was {grant.step}")
        if after.keys() - before.keys() and before.keys() & after.keys():
            self._beside(change, list(after.values()))

    def _beside(self, change: Change, grants: list[Grant]) -> None:
        """Judge a grant beside another holder, by the entries and the policy of the object, and by who has long asked to be alone."""
        policy, granted = (
            policy_of(change.new or {}),
            f"{change.key[1]} is granted to {len(grants)} at a time",
        )
        held = Counter[str]()
        for grant in grants:
            held.update(grant.devices)
        known = all(grant.devices and all(grant.devices.values()) for grant in grants)
        if not known or any(mb > TOTAL_MB - policy.reserve_mb for mb in held.values()):
            self.report(f"{granted}, of {dict(held)} MiB")
        if policy.mode == ONE_AT_A_TIME:
            self.report(f"{granted}, in mode {policy.mode}")
        for grant in grants:
            if self.now - self._exclusive.get(grant.uid, self.now) > _KNOWN_SECONDS:
                self.report(f"{granted}, of which {grant.uid} has it alone")

    def _model(self, change: Change) -> None:
        """Note since when a Model requests its devices alone."""
        model = change.new or change.old or {}
        uid = model["metadata"]["uid"]
        if change.new is not None and (model["spec"].get("gpu") or {}).get("exclusive"):
            self._exclusive.setdefault(uid, self.now)
        else:
            self._exclusive.pop(uid, None)

    def _new_turn(self, change: Change, grant: Grant, *, found: bool) -> None:
        key = (change.key[0], grant.group)
        highest, uid = self._highest.get(key, (0, ""))
        same = (highest, uid) == (grant.turn, grant.uid)
        if not found and grant.turn <= highest and not same:
            self.report(f"the turn of {grant.group} went from {highest} to {grant.turn}")
        if not found and grant.step != GRANTED:
            self.report(f"the turn {grant.turn} of {grant.group} begins at {grant.step}")
        if grant.turn >= highest:
            self._highest[key] = (grant.turn, grant.uid)
