"""One writer a status field and condition: the component that the table of components names."""

from typing import Any

from flexinfer.api.services import STATUS_FIELDS, WRITERS
from flexinfer.runtime.kubernetes.api import MODELS
from localkube.apiserver.watch_cache import Change
from tests.simulation.laws.base import Call, Law, Object


class Owners(Law):
    """Judges which conditions and fields each status write changed."""

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
        for field in _changed(last.old, last.new):
            owner = WRITERS.get(field) or next((c for c, fs in STATUS_FIELDS.items() if field in fs), "")
            if owner != call.component:
                self.report(f"{call.component} wrote {field}, which is {owner or 'no component'}'s")


def _changed(old: Object | None, new: Object) -> list[str]:
    before, after = _parts(old), _parts(new)
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


def _parts(model: Object | None) -> dict[str, Any]:
    """Return the conditions by type and the fields of a status."""
    status = dict((model or {}).get("status") or {})
    conditions = {c["type"]: c for c in status.pop("conditions", None) or ()}
    return status | conditions
