"""WatchHandler: routes watch events to the status reconciler, which all wait for, then to the publisher."""

import asyncio
import logging

from flexinfer.api import kube
from flexinfer.api.model import Model
from flexinfer.api.numbers import whole_number
from flexinfer.events.workload import model_uid, odd_numbers
from flexinfer.runtime.kubernetes.api import Change, Kind, Listing
from flexinfer.watcher.cache import ClusterCache, T
from flexinfer.watcher.publisher import StatePublisher
from flexinfer.watcher.status import StatusReconciler

log = logging.getLogger(__name__)


class WatchHandler:
    """Takes the lists and changes of every kind; `synced` is set once each kind was listed."""

    def __init__(self, cache: ClusterCache, status: StatusReconciler, publisher: StatePublisher) -> None:
        self._cache, self._status, self._publisher = cache, status, publisher
        self.synced = asyncio.Event()

    def on_list(self, kind: Kind[T], listing: Listing[T]) -> None:
        """Take a list; what it lacks was deleted.

        One of a lower version than was seen before is of an API server that was restored from a backup: what was
        observed of its former life is void, and all is compared again. One without a version is of a kind that is not served.
        """
        version = whole_number(listing.version)
        restored = version is not None and version < self._cache.versions.get(kind.plural, 0)
        subjects = self._cache.replace_all(kind, listing.items, listing.version)
        for key in subjects:
            if key.kind == "model" and self._cache.model(key.object_key) is None:
                self._status.remove(key.object_key)
        for item in listing.items:
            if isinstance(item, Model):
                self._status.upsert(item, restored=restored)
        self._publisher.enqueue(subjects)
        if restored:
            log.warning("the API server went back to version %s of %s", listing.version, kind.plural)
            self._publisher.compare()
        if self._cache.synced:
            self.synced.set()

    def on_change(self, kind: Kind[T], change: Change[T]) -> None:
        """Take one change; a bookmark changes nothing."""
        item = change.object
        if item is None:
            return
        if change.type == "DELETED":
            if isinstance(item, Model):
                self._status.remove(item.key)
            self._publisher.enqueue(self._cache.remove(kind, item))
            return
        if isinstance(item, Model):
            self._status.upsert(item)
        if isinstance(item, kube.Pod):
            _log_odd_numbers(item)
        self._publisher.enqueue(self._cache.upsert(kind, item))


def _log_odd_numbers(pod: kube.Pod) -> None:
    """Log what is not a number on a Pod that claims to be a Model's."""
    odd = odd_numbers(pod) if model_uid(pod.metadata) else []
    if odd:
        log.warning(
            "Pod %s: %s: not a number, so it counts as none of ours", pod.metadata.key, ", ".join(odd)
        )
