"""One writer a status field and condition: the component that the table of components names."""

from typing import Any

from flexinfer.api.services import STATUS_FIELDS, WRITERS
from tests.simulation.laws.base import Object, StatusWriteLaw


class Owners(StatusWriteLaw):
    """Judges which conditions and fields each status write changed."""

    def judge(self, component: str, before: Object | None, after: Object) -> None:
        """Report each that has another owner."""
        for field in _changed(before, after):
            owner = WRITERS.get(field) or next((c for c, fs in STATUS_FIELDS.items() if field in fs), "")
            if owner != component:
                self.report(f"{component} wrote {field}, which is {owner or 'no component'}'s")


def _changed(old: Object | None, new: Object) -> list[str]:
    before, after = _parts(old), _parts(new)
    return [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]


def _parts(model: Object | None) -> dict[str, Any]:
    """Return the conditions by type and the fields of a status."""
    status = dict((model or {}).get("status") or {})
    conditions = {c["type"]: c for c in status.pop("conditions", None) or ()}
    return status | conditions
