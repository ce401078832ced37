"""An API server as tests see it: plain requests, whichever API it is; and our own, as a process."""

import contextlib
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import urlencode

import msgspec

from flexinfer.local import instance as instances
from flexinfer.local.instance import LOCAL, REAL, read_secret
from tests.instance import Running, until

Object: TypeAlias = dict[str, Any]
TOKEN = "a-token-of-the-tests"
MERGE, JSON_PATCH, STRATEGIC, APPLY = (
    f"application/{kind}"
    for kind in ("merge-patch+json", "json-patch+json", "strategic-merge-patch+json", "apply-patch+yaml")
)
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_START_SECONDS = 15.0
_END_SECONDS = 10.0
_REQUEST_SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """What was answered."""

    code: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def message(self) -> str:
        """What a refusal says; empty when it is none."""
        return str(self.json.get("message", "")) if self.code >= 400 else ""

    @property
    def causes(self) -> list[tuple[str, str, str]]:
        """Field, reason and message of everything that a refusal finds wrong, sorted."""
        causes = (self.json.get("details") or {}).get("causes") or ()
        return sorted(
            {(one.get("field", ""), one.get("reason", ""), one.get("message", "")) for one in causes}
        )


@dataclass(frozen=True)
class ApiServer:
    """A running API server: where it is, who we are to it, and its certificates."""

    url: str
    kubeconfig: Path
    certificates: Path
    token: str
    world: str

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self.certificates / "ca.crt"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def connect(self) -> HTTPSConnection:
        """Open a connection."""
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
        """Make one request and return the answer, whatever it is."""
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": "tests/1"} | dict(headers or {})
        headers |= {"Accept": accept} if accept else {}
        data = None
        if body is not None:
            data, headers["Content-Type"] = msgspec.json.encode(body), content
        asked = urlencode(
            {name: str(value).lower() if value in (True, False) else value for name, value in query.items()}
        )
        with contextlib.closing(self.connect()) as connection:
            connection.request(method, f"{path}{'?' if asked else ''}{asked}", body=data, headers=headers)
            response = connection.getresponse()
            return Reply(
                response.status,
                response.read(),
                {name.lower(): value for name, value in response.headers.items()},
            )

    def get(self, path: str, **query: Any) -> Any:
        """Return what is there; it must be."""
        return _taken(self.ask("GET", path, **query))

    def create(self, path: str, body: object, **query: Any) -> Any:
        """Create an object that must be taken."""
        return _taken(self.ask("POST", path, body, **query))

    def patch(self, path: str, body: object, content: str = MERGE, **query: Any) -> Reply:
        """Patch an object, whatever comes of it."""
        return self.ask("PATCH", path, body, content=content, **query)

    def apply(self, path: str, body: object, manager: str, **query: Any) -> Reply:
        """Apply on the server in the name of a manager, whatever comes of it."""
        return self.ask("PATCH", path, body, content=APPLY, fieldManager=manager, **query)

    def watch(self, path: str, *, accept: str = "application/json", **query: Any) -> "Stream":
        """Watch a path."""
        return Stream(self, f"{path}?{urlencode({'watch': 'true'} | query)}", accept)

    def define(self, crd: Object) -> None:
        """Have a CustomResourceDefinition as given, in place of what was there, and wait until its objects can be listed."""
        name, group = crd["metadata"]["name"], crd["spec"]["group"]
        _taken(self.apply(f"{DEFINITIONS}/{name}", crd, "definer", force=True))
        plural, versions = crd["spec"]["names"]["plural"], crd["spec"]["versions"]
        for version in (one["name"] for one in versions if one["served"]):
            path = f"/apis/{group}/{version}/{plural}"
            until(lambda path=path: self.ask("GET", path).code == 200, 20, f"{path} is offered")  # type: ignore[misc]

    def eventually(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, as long as a controller may take."""
        until(condition, 30, "it holds")

    def until_gone(self, path: str) -> None:
        """Wait until there is nothing at a path."""
        until(lambda: self.ask("GET", path).code == 404, 30, f"{path} is gone")

    def make_namespace(self, name: str) -> None:
        """Make a namespace in which Pods can be created: on a real server that takes the ServiceAccount that a controller makes."""
        self.create(
            "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        )
        account = f"/api/v1/namespaces/{name}/serviceaccounts/default"
        until(lambda: self.world == LOCAL or self.ask("GET", account).code == 200, 20, f"{account} is there")


@cache
def _trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(authority))


def _taken(reply: Reply) -> Any:
    assert reply.code < 300, f"{reply.code}: {reply.message}"
    return reply.json


class Stream:
    """A watch over its own connection."""

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
        """Return the next event; empty at a clean end."""
        line = self._response.readline()
        event: Object = json.loads(line) if line else {}
        return event

    def until(self, kind: str) -> list[Object]:
        """Return the events up to the first of a kind, that one included."""
        found = [self.next()]
        while found[-1].get("type", kind) != kind:
            found.append(self.next())
        return found


@dataclass(frozen=True)
class LocalApi(ApiServer):
    """A running local API, as a process that a test may end."""

    state: Path
    process: subprocess.Popen[bytes]

    def open(self, path: str, *, method: str = "GET", body: object = None, **headers: str) -> bytes:
        """Make one request with the token; urllib's HTTPError on a refusal."""
        data = None if body is None else msgspec.json.encode(body)
        told = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | headers
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=told)
        context = ssl.create_default_context(cafile=str(self.authority))
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return bytes(response.read())

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(_END_SECONDS)


def kubeconfig_of(url: str, authority: Path) -> bytes:
    """Return a kubeconfig; JSON is YAML."""
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
    """Start a local API on a folder and wait until it answers."""
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


def end_local_api(api: LocalApi) -> None:
    """End it, however it is."""
    if api.process.poll() is None:
        api.process.kill()
    api.process.wait(_END_SECONDS)


def of_plane(plane: Running) -> ApiServer:
    """Return the API server of a running control plane."""
    held = instances.load(plane.state)
    return ApiServer(held.api_url, held.kubeconfig, held.certificates, read_secret(held.token_file), REAL)
