"""A Model is scaled to zero only when no request uses it, and never while it loads.

A report of a request takes a moment, and a proxy that NATS has lost says nothing: what may not have been heard
proves nothing here.
"""

from typing import Any

from flexinfer.api import conditions, reasons
from flexinfer.api.durations import seconds
from flexinfer.api.reasons import Reason
from flexinfer.state.observed import HEARTBEAT_GAP
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Law, Object
from tests.simulation.laws.facts import condition

_HEARD_SECONDS = 3.0
"""How old a fact must be that the reaper is judged by: a report, an API call and a decision lie between."""


class Reaping(Law):
    """Judges each write that scales a Model to zero because it is idle."""

    kinds = ("models",)

    def __init__(self, checker: Any) -> None:
        super().__init__(checker)
        self._loading_since: dict[str, float] = {}

    def written(self, change: Change) -> None:
        """Judge a change of Wanted, and note how long a Model has been loading."""
        new = change.new
        if new is None:
            return
        uid, ready = new["metadata"]["uid"], condition(new, conditions.READY)
        wanted = condition(new, conditions.WANTED)
        before = condition(change.old or {}, conditions.WANTED)
        if wanted.get("reason") == Reason.IDLE and before.get("status") == conditions.TRUE:
            self._reaped(new, uid)
        if ready.get("reason") in reasons.LOADING and wanted.get("status") == conditions.TRUE:
            self._loading_since.setdefault(uid, self.now)
        else:
            self._loading_since.pop(uid, None)

    def _reaped(self, model: Object, uid: str) -> None:
        name, now = model["metadata"]["name"], self.now
        loading = self._loading_since.get(uid, now)
        if now - loading > _HEARD_SECONDS and self._is_known_to_load(
            f"{model['metadata']['namespace']}/{name}"
        ):
            self.report(f"{name} was scaled to zero while it was loading for {now - loading:.1f} s")
        requests = self.checker.requests
        last, proxy = requests.last.get(uid, (0.0, ""))
        if not self._heard(proxy):
            return
        if any(True for _ in requests.of(uid)) and now - last > _HEARD_SECONDS:
            self.report(f"{name} was scaled to zero while it had a request for {now - last:.1f} s")
        timeout = seconds(model["spec"]["serverless"]["idleTimeout"])
        if last and _HEARD_SECONDS < now - last < timeout - _HEARD_SECONDS:
            self.report(f"{name} was scaled to zero {now - last:.1f} s after a request")

    def _is_known_to_load(self, key: str) -> bool:
        """Return whether the reaper itself has observed that a Model is loading, or received nothing to the contrary."""
        reaper = self.checker.simulation.observed.get("reaper")
        model = reaper().models.get(key) if reaper is not None else None
        ready = model.condition(conditions.READY) if model is not None else None
        return ready is None or ready.reason in reasons.LOADING

    def _heard(self, proxy: str) -> bool:
        """Return whether what a proxy reported must have arrived."""
        silent_at = self.checker.simulation.silent_at
        return bool(proxy) and self.now - silent_at.get(proxy, -1e9) > HEARTBEAT_GAP + _HEARD_SECONDS
