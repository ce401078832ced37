"""StoreCluster: an in-process Kubernetes client on the store of localkube, without HTTP.

It has the interface of `runtime.kubernetes.client.KubernetesClient`, so the simulation runs the real
components on it. Every call first lets other tasks run, as a request over the network would.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec

from flexinfer.runtime.kubernetes.api import Change, Kind, Listing, NotFoundError
from flexinfer.runtime.kubernetes.errors import Status, error_of_status
from localkube.apiserver.errors import ApiError as StoreError
from localkube.apiserver.requests import DeleteOptions, Options, Patch, Query
from localkube.apiserver.resources import Object, Resource
from localkube.apiserver.store import Store

T = TypeVar("T")


class StoreCluster:
    """`runtime.kubernetes.api.Cluster` on a Store.

    `pause` is awaited before every call and simulates latency.
    """

    def __init__(self, store: Store, pause: Callable[[], Awaitable[None]] | None = None) -> None:
        self._store = store
        self._pause = pause or _yield_to_others
        self._resources: dict[tuple[str, str], Resource] = {}

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return one object."""
        await self._pause()
        return _typed(kind, self._do(lambda: self._store.get(self._resource(kind), namespace or None, name)))

    async def list(
        self, kind: Kind[T], namespace: str = "", *, labels: str = "", fields: str = ""
    ) -> Listing[T]:
        """Return the list of all objects of a kind."""
        await self._pause()
        query = Query(label_selector=labels, field_selector=fields)
        listing = self._do(lambda: self._store.list(self._resource(kind), namespace or None, query))
        return Listing(tuple(_typed(kind, item) for item in listing.items), listing.resource_version)

    async def watch(self, kind: Kind[T], version: str) -> AsyncIterator[Change[T]]:
        """Yield the changes since a resourceVersion, without end unless the store ends the watch."""
        await self._pause()
        queue: asyncio.Queue[Change[T] | None] = asyncio.Queue()
        end = self._subscribe(kind, version, queue)
        try:
            while (change := await queue.get()) is not None:
                yield change
        finally:
            end()

    def _subscribe(
        self, kind: Kind[T], version: str, queue: "asyncio.Queue[Change[T] | None]"
    ) -> Callable[[], None]:
        """Put the changes since a version into the queue, None when the watch ends; returns what unsubscribes."""

        def take(event: Any) -> None:
            obj = _typed(kind, event.obj)
            queue.put_nowait(Change(event.type, obj, event.obj["metadata"]["resourceVersion"]))

        end: Callable[[], None] = self._do(
            lambda: self._store.subscribe(self._resource(kind), None, Query(), take, since=version)
        )
        return end

    async def create(self, kind: Kind[T], namespace: str, body: Any) -> T:
        """Create an object."""
        await self._pause()
        plain = {"apiVersion": kind.api_version, "kind": kind.name} | _plain(body)
        written = self._do(
            lambda: self._store.create(self._resource(kind), namespace or None, plain, Options())
        )
        return _typed(kind, written.obj)

    async def replace(
        self, kind: Kind[T], namespace: str, name: str, body: Any, *, subresource: str = ""
    ) -> T:
        """Replace an object; its resourceVersion must be the current one."""
        await self._pause()
        plain = {"apiVersion": kind.api_version, "kind": kind.name} | _plain(body)
        written = self._do(
            lambda: self._store.update(
                self._resource(kind), namespace or None, name, plain, Options(), subresource=subresource
            )
        )
        return _typed(kind, written.obj)

    async def apply(
        self, kind: Kind[T], namespace: str, body: Any, *, manager: str, subresource: str = ""
    ) -> T:
        """Apply an object server-side, with force."""
        options = Options(manager=manager, force=True)
        name = body["metadata"]["name"]
        return await self._patched(kind, namespace, name, Patch("apply", body), options, subresource)

    async def patch(
        self, kind: Kind[T], namespace: str, name: str, operations: Sequence[Any], *, subresource: str = ""
    ) -> T:
        """Apply a JSON patch."""
        return await self._patched(
            kind, namespace, name, Patch("json", list(operations)), Options(), subresource
        )

    async def merge(self, kind: Kind[T], namespace: str, name: str, body: Any) -> T:
        """Apply a JSON merge patch."""
        return await self._patched(kind, namespace, name, Patch("merge", body), Options())

    async def delete(
        self,
        kind: Kind[Any],
        namespace: str,
        name: str,
        *,
        uid: str = "",
        version: str = "",
        grace: int | None = None,
    ) -> None:
        """Delete an object; succeeds if it does not exist."""
        await self._pause()
        options = DeleteOptions(
            uid=uid or None, resource_version=version or None, grace_seconds=grace, propagation="Background"
        )
        try:
            self._do(lambda: self._store.delete(self._resource(kind), namespace or None, name, options))
        except NotFoundError:
            return

    async def _patched(
        self, kind: Kind[T], namespace: str, name: str, patch: Patch, options: Options, subresource: str = ""
    ) -> T:
        await self._pause()
        plain = Patch(patch.kind, _plain(patch.body))
        written = self._do(
            lambda: self._store.patch(
                self._resource(kind), namespace or None, name, plain, options, subresource=subresource
            )
        )
        return _typed(kind, written.obj)

    def _resource(self, kind: Kind[Any]) -> Resource:
        resource = self._resources.get((kind.api_version, kind.plural))
        if resource is None:
            group, _, version = kind.api_version.rpartition("/")
            registered = self._store.registry.find(group, version, kind.plural)
            if registered is None:
                raise NotFoundError("the server could not find the requested resource", 404)
            resource = self._resources[(kind.api_version, kind.plural)] = registered
        return resource

    @staticmethod
    def _do(call: Callable[[], Any]) -> Any:
        try:
            return call()
        except StoreError as error:
            raise error_of_status(Status(error.message, error.reason, error.code)) from error


def _typed(kind: Kind[T], plain: Object) -> T:
    if kind.type is msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(plain))  # type: ignore[return-value]
    return msgspec.convert(plain, kind.type)


def _plain(body: Any) -> Any:
    """Return a body as JSON decodes it: tuples become lists."""
    return msgspec.json.decode(msgspec.json.encode(body))


async def _yield_to_others() -> None:
    await asyncio.sleep(0)
