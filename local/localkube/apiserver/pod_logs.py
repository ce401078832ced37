"""Logs of Pods, fetched from the node that runs them and passed on as they come.

The kubelet is asked as a real API server asks it: `/containerLogs/<namespace>/<pod>/<container>`, over TLS where there is an authority.
The kubelet's certificate must be signed by that authority, since the token goes with the request.
"""

import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import aiohttp

from localkube.apiserver.errors import ApiError, bad_request
from localkube.apiserver.resources import Object

_PASSED_ON = (
    "follow",
    "previous",
    "tailLines",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "limitBytes",
    "stream",
)
_CONNECT_SECONDS = 5.0
_REASONS = {400: "BadRequest", 401: "InternalError", 403: "InternalError", 404: "NotFound"}
_FIRST_FAILURE = 400


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container's log is to be had."""

    url: str
    node: str


def container_of(pod: Object, asked: str) -> str:
    """Return the container whose log is meant; a 400 in a real API server's words when that is not clear."""
    spec, name = pod.get("spec", {}), pod["metadata"]["name"]
    main: list[str] = [known["name"] for known in spec.get("containers") or ()]
    initial = [known["name"] for known in spec.get("initContainers") or ()]
    if asked:
        if asked not in main + initial:
            raise bad_request(f"container {asked} is not valid for pod {name}")
        return asked
    if len(main) + len(initial) == 1:
        return main[0]
    words = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
    if initial:
        words += f" or one of the init containers: [{' '.join(initial)}]"
    raise bad_request(words)


def place(pod: Object, node: Object | None, container: str, scheme: str = "https") -> Place:
    """Return the node's address for a container's log."""
    metadata, name = pod["metadata"], pod["spec"]["nodeName"]
    status = (node or {}).get("status", {})
    address = next((a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), "")
    port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
    if not address or not port:
        raise ApiError(500, "InternalError", f'node "{name}" has not said where it serves logs')
    path = f"/containerLogs/{metadata['namespace']}/{metadata['name']}/{container}"
    return Place(f"{scheme}://{address}:{port}{path}", name)


class NodeLogs:
    """Fetches logs; `authority` is the certificate that kubelets' certificates must be signed by, None for plain HTTP."""

    def __init__(self, authority: Path | None, token: str) -> None:
        self._authority = authority
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["NodeLogs"]:
        """Hold connections to nodes."""
        context = ssl.create_default_context(cafile=str(self._authority)) if self._authority else True
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            yield self
        self._session = None

    @property
    def scheme(self) -> str:
        """The scheme of kubelets' URLs."""
        return "https" if self._authority else "http"

    @contextlib.asynccontextmanager
    async def chunks(self, where: Place, query: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a log; what the node refuses is an ApiError with its own words."""
        if self._session is None:
            raise RuntimeError("not opened")
        passed = urlencode({key: query[key] for key in _PASSED_ON if key in query})
        url = f"{where.url}?{passed}" if passed else where.url
        try:
            async with self._session.get(url, headers=self._headers) as response:
                if response.status >= _FIRST_FAILURE:
                    words = (await response.text()).strip()
                    reason = _REASONS.get(response.status, "InternalError")
                    raise ApiError(response.status if reason != "InternalError" else 500, reason, words)
                yield response.content.iter_any()
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise ApiError(500, "InternalError", f'Get "{url}": {error}') from error
