"""Pod logs: the `log` subresource, streamed from the kubelet of the Pod's node.

Like registry/core/pod/{rest/log.go,strategy.go}: the request goes to the kubelet's
`/containerLogs/<namespace>/<pod>/<container>`. With TLS the kubelet's certificate must be signed by the
cluster's CA, since the request carries the API server's token. `exec`, `attach` and `port-forward` are not
served.
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

_LOG_OPTIONS = (
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
class LogLocation:
    """The kubelet's URL of a container's log, and the name of its node."""

    url: str
    node: str


def log_container(pod: Object, requested_name: str) -> str:
    """Return the name of the container whose log is requested; an empty name means the only one.

    Raises ApiError 400 when there is no such container, or several and no name.
    """
    spec, name = pod.get("spec", {}), pod["metadata"]["name"]
    main: list[str] = [container["name"] for container in spec.get("containers") or ()]
    initial = [container["name"] for container in spec.get("initContainers") or ()]
    if requested_name:
        if requested_name not in main + initial:
            raise bad_request(f"container {requested_name} is not valid for pod {name}")
        return requested_name
    if len(main) + len(initial) == 1:
        return main[0]
    message = f"a container name must be specified for pod {name}, choose one of: [{' '.join(main)}]"
    if initial:
        message += f" or one of the init containers: [{' '.join(initial)}]"
    raise bad_request(message)


def log_location(pod: Object, node: Object | None, container: str, scheme: str = "https") -> LogLocation:
    """Return where the kubelet serves a container's log.

    Raises ApiError 500 when the node has no address or port yet.
    """
    metadata, name = pod["metadata"], pod["spec"]["nodeName"]
    status = (node or {}).get("status", {})
    address = next((a["address"] for a in status.get("addresses") or () if a["type"] == "InternalIP"), "")
    port = status.get("daemonEndpoints", {}).get("kubeletEndpoint", {}).get("Port", 0)
    if not address or not port:
        raise ApiError(
            500, "InternalError", f'node "{name}" has no InternalIP or kubelet port in its status yet'
        )
    path = f"/containerLogs/{metadata['namespace']}/{metadata['name']}/{container}"
    return LogLocation(f"{scheme}://{address}:{port}{path}", name)


class KubeletLogs:
    """A client of the kubelets' log endpoint.

    `authority` is the CA certificate of the kubelets, None for plain HTTP.
    """

    def __init__(self, authority: Path | None, token: str) -> None:
        self._authority = authority
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator["KubeletLogs"]:
        """Keep the HTTP session open."""
        context = ssl.create_default_context(cafile=str(self._authority)) if self._authority else True
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        connector = aiohttp.TCPConnector(ssl=context, limit=0, force_close=True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as self._session:
            yield self
        self._session = None

    @property
    def scheme(self) -> str:
        """Return the scheme of the kubelets' URLs."""
        return "https" if self._authority else "http"

    @contextlib.asynccontextmanager
    async def chunks(
        self, location: LogLocation, query: Mapping[str, str]
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a log stream, passing on the log options of the query.

        Raises ApiError with the kubelet's own message when it refuses, 500 when it cannot be reached.
        """
        if self._session is None:
            raise RuntimeError("used outside of opened()")
        parameters = urlencode({key: query[key] for key in _LOG_OPTIONS if key in query})
        url = f"{location.url}?{parameters}" if parameters else location.url
        try:
            async with self._session.get(url, headers=self._headers) as response:
                if response.status >= _FIRST_FAILURE:
                    message = (await response.text()).strip()
                    reason = _REASONS.get(response.status, "InternalError")
                    raise ApiError(response.status if reason != "InternalError" else 500, reason, message)
                yield response.content.iter_any()
        except (aiohttp.ClientConnectionError, TimeoutError) as error:
            raise ApiError(500, "InternalError", f'Get "{url}": {error}') from error
