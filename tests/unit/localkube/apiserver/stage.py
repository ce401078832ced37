"""A store with a manual clock, two namespaces and a custom resource with every list and map type."""

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.journal import Journal
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query, WatchEvent
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store

TEXT: Object = {"type": "string"}
WIDGETS: Object = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "widgets.example.org"},
    "spec": {
        "group": "example.org",
        "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.colour"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {
                                    "colour": TEXT,
                                    "size": {"type": "integer", "default": 1},
                                    "tags": {
                                        "type": "array",
                                        "items": TEXT,
                                        "x-kubernetes-list-type": "set",
                                    },
                                    "steps": {"type": "array", "items": TEXT},
                                    "limits": {"type": "object", "additionalProperties": TEXT},
                                    "place": {
                                        "type": "object",
                                        "x-kubernetes-map-type": "atomic",
                                        "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}},
                                    },
                                    "parts": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["name"],
                                        "items": {
                                            "type": "object",
                                            "required": ["name"],
                                            "properties": {"name": TEXT, "image": TEXT, "note": TEXT},
                                        },
                                    },
                                },
                            },
                            "status": {
                                "type": "object",
                                "properties": {
                                    "phase": TEXT,
                                    "conditions": {
                                        "type": "array",
                                        "x-kubernetes-list-type": "map",
                                        "x-kubernetes-list-map-keys": ["type"],
                                        "items": {
                                            "type": "object",
                                            "required": ["type"],
                                            "properties": {"type": TEXT, "status": TEXT, "reason": TEXT},
                                        },
                                    },
                                },
                            },
                        },
                    }
                },
            }
        ],
    },
}


class Stage:
    """The store under test, with shorthands for its operations; `now` moves only by `pass_time`."""

    def __init__(self, journal: Journal | None = None) -> None:
        self.now = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
        numbers = itertools.count(1)
        self.registry = builtin_registry()
        self.store = Store(
            self.registry,
            now=lambda: self.now,
            journal=journal,
            new_uid=lambda: f"00000000-0000-4000-8000-{next(numbers):012d}",
        )
        if self.store.revision == 0:
            self.create("namespaces", {"metadata": {"name": "default"}})
            self.create("namespaces", {"metadata": {"name": "other"}})
            self.create("customresourcedefinitions", WIDGETS)

    def res(self, plural: str) -> Resource:
        """Return a resource by its plural name."""
        return next(res for res in self.registry.resources() if res.plural == plural)

    def space(self, plural: str) -> str | None:
        """Return the namespace of the requests, None for a cluster-scoped resource."""
        return "default" if self.res(plural).namespaced else None

    def pass_time(self, seconds: float) -> None:
        """Advance the clock by seconds."""
        self.now += timedelta(seconds=seconds)

    def create(self, plural: str, obj: Object, **options: Any) -> Object:
        """POST."""
        return self.store.create(self.res(plural), self.space(plural), obj, Options(**options)).obj

    def get(self, plural: str, name: str) -> Object:
        """GET."""
        return self.store.get(self.res(plural), self.space(plural), name)

    def find(self, plural: str, name: str) -> Object | None:
        """GET, or None."""
        return self.store.find(self.res(plural), self.space(plural), name)

    def put(self, plural: str, obj: Object, subresource: str = "", **options: Any) -> Object:
        """PUT."""
        name = obj["metadata"]["name"]
        res = self.res(plural)
        return self.store.update(res, self.space(plural), name, obj, Options(**options), subresource).obj

    def merge(self, plural: str, name: str, body: Any, subresource: str = "", **options: Any) -> Object:
        """PATCH with a merge patch."""
        return self.patch(plural, name, Patch("merge", body), subresource, **options)

    def patch(self, plural: str, name: str, patch: Patch, subresource: str = "", **options: Any) -> Object:
        """PATCH."""
        res = self.res(plural)
        return self.store.patch(res, self.space(plural), name, patch, Options(**options), subresource).obj

    def apply(
        self, manager: str, body: Object, subresource: str = "", *, name: str = "w", force: bool = False
    ) -> Object:
        """PATCH a widget with a server-side apply of these fields."""
        meta = {"name": name, **body.get("metadata", {})}
        config = {"apiVersion": "example.org/v1", "kind": "Widget", **body, "metadata": meta}
        patch = Patch("apply", config)
        return self.patch("widgets", name, patch, subresource, manager=manager, force=force)

    def delete(self, plural: str, name: str, **options: Any) -> Object:
        """DELETE."""
        return self.store.delete(self.res(plural), self.space(plural), name, DeleteOptions(**options))

    def names(self, plural: str, namespace: str | None = None, **query: Any) -> list[str]:
        """Return the names of the objects that match."""
        listing = self.store.list(self.res(plural), namespace, Query(**query))
        return [obj["metadata"]["name"] for obj in listing.items]

    def watch(self, plural: str, since: str | None = None, **query: Any) -> list[WatchEvent]:
        """Subscribe, and return the list that the events are appended to."""
        events: list[WatchEvent] = []
        self.store.subscribe(self.res(plural), None, Query(**query), events.append, since=since)
        return events


def a_widget(name: str = "w", **spec: Any) -> Object:
    """Return a new Widget."""
    return {"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec}


def a_pod(name: str = "p", **spec: Any) -> Object:
    """Return a new Pod."""
    containers = [{"name": "main", "image": "image:1"}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": containers, **spec},
    }


def owned_by(owner: Object, obj: Object, *, blocks: bool = False) -> Object:
    """Return the object with a reference to its owner."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": blocks,
    }
    references = obj["metadata"].get("ownerReferences", [])
    return {**obj, "metadata": {**obj["metadata"], "ownerReferences": [*references, reference]}}
