"""Establishing: writes the status of CustomResourceDefinitions (`NamesAccepted`, `Established`, `storedVersions`).

The naming and establishing controllers of apiextensions. The store serves a definition as soon as it is stored, so this only tells
clients that wait for `Established`; conflicts of names are refused by the store and not reported here.
"""

from collections.abc import Callable
from datetime import datetime

from localkube.apiserver.object_metadata import rfc3339
from localkube.apiserver.requests import Options
from localkube.apiserver.resources import Object
from localkube.apiserver.store import DEFINITIONS, Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import WorkQueue, try_write

_OPTIONS = Options(manager="kube-apiserver")


class EstablishingController:
    """Keeps the status of every definition up to date."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._queue: WorkQueue[str] = WorkQueue()
        for place, (_, name), _obj in store.each():
            if place == DEFINITIONS:
                self._queue.add(name)
        store.observe(self._on_change)

    def step(self) -> bool:
        """Write every status that is out of date; returns whether a definition had changed."""
        return self._queue.drain(self._sync)

    def _sync(self, name: str) -> None:
        res = self._store.resource(DEFINITIONS)
        definition = self._store.find(res, None, name) if res is not None else None
        if res is None or definition is None:
            return
        status = self._status(definition)
        if status != definition.get("status"):
            update = definition | {"status": status}
            try_write(lambda: self._store.update(res, None, name, update, _OPTIONS, subresource="status"))

    def _on_change(self, change: Change) -> None:
        if change.group_resource == DEFINITIONS and change.new is not None:
            self._queue.add(change.key[1])

    def _status(self, definition: Object) -> Object:
        current, spec = definition.get("status") or {}, definition["spec"]
        storage = [version["name"] for version in spec["versions"] if version["storage"]]
        versions = current.get("storedVersions") or []
        return current | {
            "conditions": current.get("conditions") or self._conditions(),
            "acceptedNames": spec["names"],
            "storedVersions": versions + [name for name in storage if name not in versions],
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
