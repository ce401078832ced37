"""A local API as a real process, and plain kubectl against it."""

import itertools
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

TOKEN = "a-token-of-the-tests"
_START_SECONDS = 15.0
_END_SECONDS = 10.0
_numbers = itertools.count(1)


@dataclass(frozen=True)
class LocalApi:
    """A running local API and how to reach it."""

    url: str
    kubeconfig: Path
    state: Path
    process: subprocess.Popen[bytes]

    @property
    def authority(self) -> Path:
        """The certificate to trust."""
        return self.state / "certificates" / "ca.crt"

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

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


@dataclass(frozen=True)
class Answer:
    """What a program printed."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Kubectl:
    """Plain kubectl, in a namespace of the test's own."""

    environment: dict[str, str]
    namespace: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and leave it running."""
        program = str(Path(sys.executable).with_name("kubectl"))
        return subprocess.Popen(
            [program, f"--namespace={self.namespace}", *arguments],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, given: str = "") -> Answer:
        """Run it to its end, with `given` as its input."""
        process = self.start(*arguments)
        out, err = process.communicate(given, timeout=20)
        return Answer(process.returncode, out, err)

    def __call__(self, line: str, given: str = "") -> str:
        """Run a line that must succeed, and return what it prints."""
        answer = self.run(*line.split(), given=given)
        assert answer.code == 0, f"kubectl {line}: {answer.err}"
        return answer.out.rstrip("\n")

    def refused(self, line: str, given: str = "") -> str:
        """Run a line that must fail, and return its complaint."""
        answer = self.run(*line.split(), given=given)
        assert answer.code != 0, f"kubectl {line}: {answer.out}"
        return answer.err.rstrip("\n")


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
        *(sys.executable, "-m", "flexinfer.local.api", "--state", str(state), "--port", str(port)),
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
    return LocalApi(url, config, state, process)


def end_local_api(api: LocalApi) -> None:
    """End it, however it is."""
    if api.process.poll() is None:
        api.process.kill()
    api.process.wait(_END_SECONDS)


@pytest.fixture(scope="session")
def local_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalApi]:
    """One local API for all tests of a run; they keep apart by namespaces."""
    api = start_local_api(tmp_path_factory.mktemp("api") / "state")
    yield api
    end_local_api(api)


@pytest.fixture
def kubectl_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[LocalApi], Kubectl]:
    """Return a maker of kubectls, each in a new namespace."""
    home = tmp_path_factory.getbasetemp() / "home"

    def make(api: LocalApi) -> Kubectl:
        namespace = f"test-{next(_numbers)}"
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        api.open("/api/v1/namespaces", method="POST", body=space)
        return Kubectl(dict(os.environ, HOME=str(home), KUBECONFIG=str(api.kubeconfig)), namespace)

    return make


@pytest.fixture
def kubectl(local_api: LocalApi, kubectl_of: Callable[[LocalApi], Kubectl]) -> Kubectl:
    """Plain kubectl against the shared local API."""
    return kubectl_of(local_api)
