"""A store with the built-in kinds, a clock by hand, and the controllers under test."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.requests import DeleteOptions, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.controllers.workqueue import Controller
from tests.controllers import run_until_quiet

NAMESPACE = "default"
START = datetime(2026, 5, 1, tzinfo=UTC)
_GROUPS = {"jobs": "batch", "storageclasses": "storage.k8s.io"}
_WIDE = frozenset({"nodes", "namespaces", "persistentvolumes", "storageclasses"})


class Harness:
    """A store with the built-in kinds, a manual clock, and the controllers under test."""

    def __init__(self, *controllers: Callable[[Store, Callable[[], datetime]], Controller]) -> None:
        self.now = START
        self.registry = builtin_registry()
        self.store = Store(self.registry, now=lambda: self.now)
        self.make("namespaces", {"metadata": {"name": NAMESPACE}})
        self._controllers: Sequence[Controller] = [make(self.store, lambda: self.now) for make in controllers]

    def resource(self, plural: str) -> Resource:
        """Return a built-in resource."""
        found = self.registry.find(_GROUPS.get(plural, ""), "v1", plural)
        assert found is not None
        return found

    def make(self, plural: str, body: Object) -> Object:
        """Create an object."""
        res = self.resource(plural)
        return self.store.create(
            res, _space(plural), {"apiVersion": res.api_version, "kind": res.kind, **body}
        ).obj

    def get(self, plural: str, name: str) -> Object:
        """Return an object; empty when it is not there."""
        return self.store.find(self.resource(plural), _space(plural), name) or {}

    def all(self, plural: str) -> list[Object]:
        """Return all objects of a kind."""
        return list(self.store.list(self.resource(plural), _space(plural)).items)

    def status(self, plural: str, name: str, **status: Any) -> None:
        """Write a status, as a node would."""
        patch = Patch("merge", {"status": status})
        self.store.patch(self.resource(plural), _space(plural), name, patch, subresource="status")

    def spec(self, plural: str, name: str, **spec: Any) -> None:
        """Change a spec, as a user would."""
        self.store.patch(self.resource(plural), _space(plural), name, Patch("merge", {"spec": spec}))

    def delete(self, plural: str, name: str) -> None:
        """Delete an object at once."""
        self.store.delete(self.resource(plural), _space(plural), name, DeleteOptions(grace_seconds=0))

    def settle(self, seconds: float = 0) -> None:
        """Let time pass, then the controllers work until there is nothing to do."""
        self.now += timedelta(seconds=seconds)
        run_until_quiet(self._controllers)

    def events(self) -> list[tuple[str, str]]:
        """Return reason and message of every Event."""
        self.settle(0.1)
        return [(event["reason"], event["message"]) for event in self.all("events")]


def _space(plural: str) -> str | None:
    return None if plural in _WIDE else NAMESPACE
