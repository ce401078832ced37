"""Nothing of a Model runs when it is said so: at `Stopped` with a turn, at the group's `Stopped`, at the last finalizer.

A Pod whose gate is closed holds nothing and may be left behind by a process that was paused.
"""

from collections.abc import Mapping
from typing import Any

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import FREED, GRANTED, STOPPED
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law, Object
from tests.simulation.laws.facts import GROUP_KIND, Grant, condition, gates, grants_of


class Stops(Law):
    """Judges what says that an engine has stopped, against the Pods of the store."""

    kinds = ("models", GROUP_KIND)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._grants: dict[tuple[str, str], Mapping[str, Grant]] = {}

    def written(self, change: Change) -> None:
        """Judge a Model or the object of a group."""
        if change.group_resource[1] == "models":
            self._model(change)
            return
        before, after = grants_of(change.old), grants_of(change.new)
        self._grants[change.key] = after
        for uid, grant in after.items():
            if grant != before.get(uid):
                self._step(uid, grant)
        for uid, grant in before.items():
            if change.new is not None and uid not in after:
                self._step(uid, grant._replace(step=FREED))

    def _step(self, uid: str, grant: Grant) -> None:
        if grant.step == STOPPED and (left := self._left(uid)):
            self.report(f"turn {grant.turn} of {grant.group} is Stopped while Pod {left} exists")
        if grant.step == FREED:
            holder = (uid, str(grant.turn))
            machines = self.checker.simulation.machines
            known = [e for e in machines.engines.values() if e.node not in machines.given_up]
            if any(engine.holder == holder and engine.holds_memory for engine in known):
                self.report(f"turn {grant.turn} of {grant.group} is Freed while its memory is in use")

    def _model(self, change: Change) -> None:
        old, new = change.old, change.new
        if old is None:
            return
        uid = old["metadata"]["uid"]
        if new is None or _has_finalizer(old) > _has_finalizer(new):
            if left := self._left(uid):
                self.report(f"the finalizer of {uid} was removed while Pod {left} exists")
        elif (turn := _stopped_turn(new)) and turn != _stopped_turn(old):
            self._reported(uid, turn)

    def _reported(self, uid: str, turn: int) -> None:
        """Judge a report that the engine of a turn has stopped: it answers a release, no other stop."""
        if left := self._left(uid):
            self.report(f"{uid} reports turn {turn} as stopped while Pod {left} exists")
        granted = [grants[uid] for grants in self._grants.values() if uid in grants]
        if any(grant.turn == turn and grant.step == GRANTED for grant in granted):
            self.report(f"{uid} reports turn {turn} as stopped, which was not asked back")

    def _left(self, uid: str) -> str:
        """Return the name of an open Pod of a Model that is left; empty if there is none."""
        return next((pod["metadata"]["name"] for pod in self.checker.pods_of(uid) if not gates(pod)), "")


def _has_finalizer(model: Object) -> bool:
    return RUNNING_FINALIZER in (model["metadata"].get("finalizers") or ())


def _stopped_turn(model: Object) -> int:
    """Return the turn that a Model reports as stopped; 0 if it reports none: with a Pod, the turn is only named."""
    if condition(model, conditions.READY).get("reason") != Reason.STOPPED:
        return 0
    backend = (model.get("status") or {}).get("backend") or {}
    return 0 if backend.get("podUID") else int(backend.get("turn", 0))
