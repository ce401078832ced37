"""Client: the requests that a kubelet makes of an API server, with plain JSON in and out.

It keeps no cache and retries nothing.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import urlencode

import aiohttp
import msgspec

from localkube.kubelet.api_errors import ApiError, ConflictError, NotFoundError, UnavailableError, error_of
from localkube.kubelet.kubeconfig import Access, access

Object: TypeAlias = dict[str, Any]

_REQUEST_SECONDS = 10.0
_SILENCE_SECONDS = 90.0
"""A watch without any event for so long, not even a bookmark, has lost its connection."""
_FIRST_FAILURE = 400


@contextlib.asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator["Client"]:
    """Open a client by kubeconfig, or by the Pod's service account when that is empty. Raises KubeconfigError."""
    server = access(kubeconfig)
    connector = aiohttp.TCPConnector(ssl=server.context or True, limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Client(server, session)


class Client:
    """Requests to one API server; every method raises ApiError."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self._access = access
        self._session = session

    async def get(self, path: str, **query: str) -> Object:
        """Return one object, or a list."""
        return await self._call("GET", path, query)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object; raises AlreadyExistsError if its name is taken."""
        return await self._call("POST", path, body=body)

    async def merge(self, path: str, body: Object) -> Object:
        """Apply a JSON merge patch."""
        return await self._call("PATCH", path, body=body, content="merge-patch+json")

    async def delete(self, path: str, *, uid: str, grace: int | None = None) -> None:
        """Delete an object of that uid; success too if it is deleted already or another object has its name."""
        body: Object = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        with contextlib.suppress(NotFoundError, ConflictError):
            await self._call("DELETE", path, body=body)

    async def watch(self, path: str, version: str, **query: str) -> AsyncIterator[tuple[str, Object]]:
        """Yield (type, object) of what changed since version, bookmarks included; ends when the stream does. Raises ApiError."""
        parameters = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version, **query}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_REQUEST_SECONDS, sock_read=_SILENCE_SECONDS)
        async with self._request("GET", path, parameters, timeout=timeout) as response:
            if response.status >= _FIRST_FAILURE:
                raise _error(response.status, await response.read())
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in filter(bytes.strip, lines):
                    yield _change(line)

    def bearer(self) -> str:
        """Return the bearer token that requests carry; empty when another credential is used."""
        return self._access.bearer()

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Any = None,
        content: str = "json",
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
        data = None if body is None else msgspec.json.encode(body)
        async with self._request(
            method, path, query or {}, data=data, content=content, timeout=timeout
        ) as response:
            answer = await response.read()
            if response.status >= _FIRST_FAILURE:
                raise _error(response.status, answer)
            return msgspec.json.decode(answer, type=dict[str, Any])

    @contextlib.asynccontextmanager
    async def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- of aiohttp, not a deadline of ours
        data: bytes | None = None,
        content: str = "json",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        headers = {"Accept": "application/json", "Content-Type": f"application/{content}"}
        url = f"{self._access.server}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            if token := self._access.bearer():
                headers["Authorization"] = f"Bearer {token}"
            async with self._session.request(
                method, url, data=data, headers=headers, timeout=timeout
            ) as response:
                yield response
        except (TimeoutError, aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
            raise UnavailableError(f"{method} {path}: {str(error) or type(error).__name__}") from error


def pod_path(pod: Object, subresource: str = "") -> str:
    """Return the path of a Pod."""
    metadata = pod["metadata"]
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}"
    return f"{path}/{subresource}" if subresource else path


def _change(line: bytes) -> tuple[str, Object]:
    event = msgspec.json.decode(line, type=dict[str, Any])
    if event["type"] == "ERROR":
        status = event["object"]
        raise error_of(int(status.get("code", 0)), str(status.get("message", "")))
    return event["type"], event["object"]


def _error(code: int, answer: bytes) -> ApiError:
    try:
        status = msgspec.json.decode(answer, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = {}
    return error_of(code, str(status.get("message") or f"HTTP {code}"), str(status.get("reason", "")))
