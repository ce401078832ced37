"""What every namespace has: the ServiceAccount `default`, and the ConfigMap `kube-root-ca.crt` with the authority of the API server.

The ServiceAccount controller and the publisher of the root CA of kube-controller-manager (pkg/controller/serviceaccount and
pkg/controller/certificates/rootcacertpublisher). No token belongs to an account, and Pods run as the user of the node: manifests that name
one, or read the certificate, work as they are.
"""

from typing import Final, TypeAlias

from localkube.apiserver.requests import Options, Patch
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store
from localkube.apiserver.watch_cache import Change
from localkube.controllers.workqueue import WorkQueue, try_write

Key: TypeAlias = tuple[str, str]
ACCOUNT, ROOT_CA = "default", "kube-root-ca.crt"
_ACCOUNTS: Final = ("", "serviceaccounts")
_CONFIG_MAPS: Final = ("", "configmaps")
_NAMESPACES: Final = ("", "namespaces")
_DESCRIPTION: Final = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints "
    "such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."
}
"""As rootcacertpublisher writes it."""
_OPTIONS = Options(manager="kube-controller-manager")


class NamespaceContents:
    """Keeps both objects in every namespace; without `authority` (PEM), a server without TLS, the ServiceAccount alone."""

    def __init__(self, store: Store, authority: str = "") -> None:
        self._store = store
        self._spaces, self._accounts, self._maps = map(self._resource, (_NAMESPACES, _ACCOUNTS, _CONFIG_MAPS))
        self._data = {"ca.crt": authority} if authority else {}
        self._queue: WorkQueue[str] = WorkQueue()
        for space in store.list(self._spaces, None).items:
            self._queue.add(space["metadata"]["name"])
        store.observe(self._on_change)

    def step(self) -> bool:
        """Create or correct what is missing; returns whether anything had changed."""
        return self._queue.drain(self._sync)

    def _on_change(self, change: Change) -> None:
        space, name = change.key
        if change.group_resource == _NAMESPACES and change.new is not None:
            self._queue.add(name)
        elif space and (change.group_resource, name) in ((_ACCOUNTS, ACCOUNT), (_CONFIG_MAPS, ROOT_CA)):
            self._queue.add(space)

    def _sync(self, name: str) -> None:
        space = self._store.find(self._spaces, None, name)
        if space is None or "deletionTimestamp" in space["metadata"]:
            return
        if self._store.find(self._accounts, name, ACCOUNT) is None:
            self._create(self._accounts, name, {"metadata": {"name": ACCOUNT}})
        if self._data:
            self._publish(name)

    def _publish(self, space: str) -> None:
        """Create the ConfigMap, or write its data back after an edit."""
        existing = self._store.find(self._maps, space, ROOT_CA)
        if existing is None:
            metadata = {"name": ROOT_CA, "annotations": _DESCRIPTION}
            self._create(self._maps, space, {"metadata": metadata, "data": self._data})
        elif existing.get("data") != self._data:
            others = dict.fromkeys(existing.get("data") or {})
            patch = Patch("merge", {"data": others | self._data})
            try_write(lambda: self._store.patch(self._maps, space, ROOT_CA, patch, _OPTIONS))

    def _create(self, res: Resource, space: str, body: Object) -> None:
        body = {"apiVersion": res.api_version, "kind": res.kind, **body}
        try_write(lambda: self._store.create(res, space, body, _OPTIONS))

    def _resource(self, name: tuple[str, str]) -> Resource:
        res = self._store.registry.find(name[0], "v1", name[1])
        if res is None:
            raise LookupError(f"the registry has no {name[1]}")
        return res
