"""Plain requests to a Kubernetes API server, the local API or a real one; and the local API as a process."""

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPResponse, HTTPSConnection
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

import msgspec

from flexinfer.local import instance as instances
from flexinfer.local.instance import LOCAL, REAL, read_secret
from tests.instance import Running, until
from tests.patience import patient

Object: TypeAlias = dict[str, Any]
TOKEN = "a-token-of-the-tests"
MERGE, JSON_PATCH, STRATEGIC, APPLY = (
    f"application/{kind}"
    for kind in ("merge-patch+json", "json-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")
)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_START_SECONDS = patient(15.0)
_END_SECONDS = patient(10.0)
_REQUEST_SECONDS = patient(20.0)


@dataclass(frozen=True)
class Reply:
    """A response of the API server."""

    code: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """The message of an error response; empty for a success."""
        return str(self.json.get("message", "")) if self.code >= 400 else ""

    @property
    def causes(self) -> list[tuple[str, str, str]]:
        """Field, reason and message of each cause of an error response, sorted."""
        causes = (self.json.get("details") or {}).get("causes") or ()
        return sorted(
            {(one.get("field", ""), one.get("reason", ""), one.get("message", "")) for one in causes}
        )


@dataclass(frozen=True)
class ApiServer:
    """A running API server: its URL, the credentials of the tests and its certificates.

    `kind` is LOCAL or REAL.
    """

    url: str
    kubeconfig: Path
    certificates: Path
    token: str
    kind: str

    @property
    def authority(self) -> Path:
        """The file of the certificate authority."""
        return self.certificates / "ca.crt"

    @property
    def port(self) -> int:
        """The TCP port that it listens on."""
        return int(self.url.rpartition(":")[2])

    def connect(self) -> HTTPSConnection:
        """Return a new connection."""
        return HTTPSConnection(
            "127.0.0.1", self.port, timeout=_REQUEST_SECONDS, context=_trusting(self.authority)
        )

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content: str = "application/json",
        accept: str = "",
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Reply:
        """Send one request and return the response, success or error."""
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": "tests/1"} | dict(headers or {})
        headers |= {"Accept": accept} if accept else {}
        data = None
        if body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), content
        query_string = urlencode(
            {name: str(value).lower() if value in (True, False) else value for name, value in query.items()}
        )
        with contextlib.closing(self.connect()) as connection:
            connection.request(
                method, f"{path}{'?' if query_string else ''}{query_string}", body=data, headers=headers
            )
            response = connection.getresponse()
            return Reply(
                response.status,
                response.read(),
                {name.lower(): value for name, value in response.headers.items()},
            )

    def get(self, path: str, **query: Any) -> Any:
        """Return the object or list at a path; fails if there is none."""
        return _accepted(self.ask("GET", path, **query))

    def create(self, path: str, body: object, **query: Any) -> Any:
        """Create an object and return it; fails if the API server refuses it."""
        return _accepted(self.ask("POST", path, body, **query))

    def patch(self, path: str, body: object, content: str = MERGE, **query: Any) -> Reply:
        """Patch an object and return the response, success or error."""
        return self.ask("PATCH", path, body, content=content, **query)

    def apply(self, path: str, body: object, manager: str, **query: Any) -> Reply:
        """Apply an object server-side as a field manager and return the response, success or error."""
        return self.ask("PATCH", path, body, content=APPLY, fieldManager=manager, **query)

    def watch(self, path: str, *, accept: str = "application/json", **query: Any) -> "Stream":
        """Open a watch on a path."""
        return Stream(self, f"{path}?{urlencode({'watch': 'true'} | query)}", accept)

    def define(self, crd: Object) -> None:
        """Create or replace a CustomResourceDefinition, and wait until its objects can be listed."""
        name, group = crd["metadata"]["name"], crd["spec"]["group"]
        _accepted(self.apply(f"{DEFINITIONS}/{name}", crd, "definer", force=True))
        plural, versions = crd["spec"]["names"]["plural"], crd["spec"]["versions"]
        for version in (one["name"] for one in versions if one["served"]):
            path = f"/apis/{group}/{version}/{plural}"
            until(lambda path=path: self.ask("GET", path).code == 200, 20, f"{path} is served")  # type: ignore[misc]

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds, for at most the 30 s that a controller may take."""
        until(condition, 30, "the condition holds")

    def until_gone(self, path: str) -> None:
        """Wait until the object at a path is deleted."""
        until(lambda: self.ask("GET", path).code == 404, 30, f"{path} is gone")

    def make_namespace(self, name: str) -> None:
        """Create a namespace, and wait for its ServiceAccount, which Pods need."""
        self.create(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda: self.ask("GET", account).code == 200, 20, f"{account} exists")


@cache
def _trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _accepted(reply: Reply) -> Any:
    assert reply.code < 300, f"{reply.code}: {reply.message}"
    return reply.json


class Stream:
    """A watch on a connection of its own."""

    def __init__(self, server: ApiServer, path: str, accept: str = "application/json") -> None:
        self._connection = server.connect()
        headers = {"Authorization": f"Bearer {server.token}", "Accept": accept}
        self._connection.request("GET", path, headers=headers)
        self._response = self._connection.getresponse()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def next(self) -> Object:
        """Return the next event; empty when the watch has ended cleanly."""
        line = self._response.readline()
        event: Object = json.loads(line) if line else {}
        return event

    def until(self, kind: str) -> list[Object]:
        """Return the events up to and including the first of a type."""
        events = [self.next()]
        while events[-1].get("type", kind) != kind:
            events.append(self.next())
        return events


@dataclass(frozen=True)
class LocalApi(ApiServer):
    """The local API as a process, which a test may kill."""

    state: Path
    process: subprocess.Popen[bytes]

    def open(self, path: str, *, method: str = "GET", body: object = None, **headers: str) -> bytes:
        """Send one request with the token and return the body. Raises urllib.error.HTTPError."""
        data = None if body is None else msgspec.json.encode(body)
        sent = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=sent)
        context = ssl.create_default_context(cafile=str(self.authority))
        with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS, context=context) as response:
            return bytes(response.read())

    @contextlib.contextmanager
    def reading(self, path: str) -> Iterator[HTTPResponse]:
        """Send a GET and yield the response, whose body the test reads as it comes."""
        with contextlib.closing(self.connect()) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            yield connection.getresponse()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the process and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_END_SECONDS)


def kubeconfig_of(url: str, authority: Path) -> bytes:
    """Return a kubeconfig as JSON, which is YAML."""
    cluster = {"server": url, "certificate-authority": str(authority)}
    return msgspec.json.encode(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": TOKEN}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        }
    )


def start_local_api(state: Path, port: int = 0) -> LocalApi:
    """Start a local API with its data in a folder, and wait until it listens."""
    state.mkdir(parents=True, exist_ok=True)
    (state / "token").write_text(TOKEN)
    port_file = state / "port"
    port_file.unlink(missing_ok=True)
    argv = [
        *(sys.executable, "-m", "flexinfer.local.apiserver", "--state", str(state), "--port", str(port)),
        *("--certificates", str(state / "certificates"), "--token-file", str(state / "token")),
        *("--port-file", str(port_file)),
    ]
    with (state / "api.log").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    deadline = time.monotonic() + _START_SECONDS
    while not port_file.exists():
        assert process.poll() is None, (state / "api.log").read_text()
        assert time.monotonic() < deadline, "the local API did not start"
        time.sleep(0.01)
    url = f"https://127.0.0.1:{int(port_file.read_text())}"
    config = state / "kubeconfig"
    config.write_bytes(kubeconfig_of(url, state / "certificates" / "ca.crt"))
    return LocalApi(url, config, state / "certificates", TOKEN, LOCAL, state, process)


def kill_local_api(api: LocalApi) -> None:
    """Kill the process if it still runs, and reap it."""
    if api.process.poll() is None:
        api.process.kill()
    api.process.wait(_END_SECONDS)


def control_plane_api(plane: Running) -> ApiServer:
    """Return the API server of a running real control plane."""
    instance = instances.load(plane.state)
    return ApiServer(
        instance.api_url, instance.kubeconfig, instance.certificates, read_secret(instance.token_file), REAL
    )
