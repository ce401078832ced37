"""Establishing: a definition that is stored is offered at once; its status says so for those who wait for it."""

from collections.abc import Callable
from datetime import datetime

from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import Options
from localkube.apiserver.resources import Object
from localkube.apiserver.store import DEFINITIONS, Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import Work, attempt

_OPTIONS = Options(manager="kube-apiserver")


class Establishing:
    """Follows definitions, and writes the status of those whose status does not fit."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._work: Work[str] = Work()
        for place, (_, name), _obj in store.each():
            if place == DEFINITIONS:
                self._work.add(name)
        store.observe(self._take)

    def step(self) -> bool:
        """Write every status that has to be written; returns whether a definition had changed."""
        return self._work.drain(self._look)

    def _look(self, name: str) -> None:
        res = self._store.resource(DEFINITIONS)
        live = self._store.find(res, None, name) if res is not None else None
        if res is None or live is None:
            return
        status = self._status(live)
        if status != live.get("status"):
            wanted = live | {"status": status}
            attempt(lambda: self._store.update(res, None, name, wanted, _OPTIONS, subresource="status"))

    def _take(self, change: Change) -> None:
        if change.group_resource == DEFINITIONS and change.new is not None:
            self._work.add(change.key[1])

    def _status(self, definition: Object) -> Object:
        known, spec = definition.get("status") or {}, definition["spec"]
        storage = [version["name"] for version in spec["versions"] if version["storage"]]
        stored = known.get("storedVersions") or []
        return known | {
            "conditions": known.get("conditions") or self._conditions(),
            "acceptedNames": spec["names"],
            "storedVersions": stored + [name for name in storage if name not in stored],
        }

    def _conditions(self) -> list[Object]:
        time = rfc3339(self._now())
        return [
            _true("NamesAccepted", "NoConflicts", "no conflicts found", time),
            _true("Established", "InitialNamesAccepted", "the initial names have been accepted", time),
        ]


def _true(kind: str, reason: str, message: str, time: str) -> Object:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": time,
    }
