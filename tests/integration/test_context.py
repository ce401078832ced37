"""`flexinfer --context NAME`: commands for a cluster as processes, with a real Kubernetes API and the NATS of the manifests.

The port-forward is a stand-in for kubectl's, which tests/node runs.
"""

import asyncio
import base64
import contextlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.credentials.secrets import API_KEY_SECRET, secret_of
from flexinfer.events import events
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StateStream
from tests.apiserver import LocalApi
from tests.builders import a_model
from tests.deployed_nats import DeployedNats, single_server
from tests.forwarding import Kubectl
from tests.instance import BIN, until
from tests.patience import patient

pytestmark = pytest.mark.integration
SYSTEM = "/api/v1/namespaces/flexinfer-system"
KEY = "the-key-of-the-cluster"
SECONDS = patient(120.0)


class KeyedProxy(http.server.BaseHTTPRequestHandler):
    """A proxy that answers those who have the key; a model called slow is never answered."""

    def do_POST(self) -> None:
        """Answer a chat completion."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers["Authorization"] != f"Bearer {KEY}":
            self.send_error(401)
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'data: {"choices": [{"delta": {"content": "Paris."}}]}\n\n')
        if body["model"] == "slow":
            self.wfile.flush()
            self.rfile.read(1)
            return
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def proxy() -> Iterator[int]:
    """Serve a proxy; yields its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), KeyedProxy) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


class ClusterUser:
    """A user with a kubeconfig: runs commands, with a kubectl on PATH."""

    def __init__(self, api: LocalApi, kubectl: Kubectl, home: Path) -> None:
        self.api, self.kubectl = api, kubectl
        names = ("FLEXINFER_STATE", "OPENAI_BASE_URL", "OPENAI_API_KEY", "NATS_URL")
        clean = {key: value for key, value in os.environ.items() if key not in names}
        self.environment = clean | {
            "KUBECONFIG": str(api.kubeconfig),
            "HOME": str(home),
            "PATH": f"{kubectl.folder}:{clean['PATH']}",
        }

    def run(self, *words: str, path: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        environment = self.environment | ({"PATH": path} if path else {})
        return subprocess.run(
            [str(BIN / "flexinfer"), *words],
            env=environment, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "flexinfer.cli", *words],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def make(self, plural: str, kind: str, name: str, **fields: Any) -> None:
        """Create an object of flexinfer-system, in place of one of that name."""
        self.api.ask("DELETE", f"{SYSTEM}/{plural}/{name}")
        body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}
        self.api.create(f"{SYSTEM}/{plural}", body)

    def secret(self, name: str, **data: bytes) -> None:
        """Create a Secret."""
        coded = {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}
        self.make("secrets", "Secret", name, data=coded)

    def forget(self, path: str) -> None:
        """Delete an object of flexinfer-system."""
        self.api.ask("DELETE", f"{SYSTEM}/{path}")


@pytest.fixture
def user(local_api: LocalApi, tmp_path: Path, proxy: int) -> ClusterUser:
    """Return a user of a cluster on which FlexInfer is installed."""
    (tmp_path / "home").mkdir()
    kubectl = Kubectl(tmp_path / "bin")
    kubectl.plan({"flexinfer-proxy": proxy})
    one = ClusterUser(local_api, kubectl, tmp_path / "home")
    if local_api.ask("GET", SYSTEM).code == 404:
        local_api.make_namespace("flexinfer-system")
    for name, port, number in (("flexinfer-proxy", "http", 80), ("flexinfer-nats", "client", 4222)):
        one.make("services", "Service", name, spec={"ports": [{"name": port, "port": number}]})
    one.secret(API_KEY_SECRET, key=KEY.encode() + b"\n")
    return one


def test_chat_reaches_the_proxy_of_a_cluster_with_the_key_of_its_secret(user: ClusterUser) -> None:
    """And the port-forward ends with the command."""
    done = user.run("--context", "test", "chat", "smollm2", "capital of France?")
    assert (done.stdout, done.stderr) == ("Paris.\n", "")
    (run,) = user.kubectl.runs
    assert run["words"] == [
        "--context=test",
        "--namespace=flexinfer-system",
        "port-forward",
        "--address=127.0.0.1",
        "--pod-running-timeout=10s",
        "service/flexinfer-proxy",
        ":http",
    ]
    assert user.kubectl.left == []


def test_the_context_may_stand_after_the_command_and_the_kubeconfig_be_named(user: ClusterUser) -> None:
    """As with kubectl; kubectl then reads the same file."""
    del user.environment["KUBECONFIG"]
    config = str(user.api.kubeconfig)
    done = user.run("chat", "smollm2", "hello", "--context", "test", "--kubeconfig", config)
    assert done.stdout == "Paris.\n"
    assert f"--kubeconfig={config}" in str(user.kubectl.runs)


def test_a_port_forward_ends_with_a_command_that_a_signal_ends(user: ClusterUser) -> None:
    """No kubectl is left behind."""
    with user.start("--context", "test", "chat", "slow", "hello") as chat:
        assert chat.stdout is not None
        assert chat.stdout.read(6) == "Paris."
        chat.send_signal(signal.SIGTERM)
        assert chat.wait(SECONDS) == 128 + signal.SIGTERM
    until(lambda: user.kubectl.left == [], SECONDS, "kubectl has ended")


def test_a_port_forward_that_is_lost_is_one_sentence_with_the_cause(user: ClusterUser) -> None:
    """Not that an address of this machine, which the user never named, does not answer."""
    with user.start("--context", "test", "chat", "slow", "hello") as chat:
        assert chat.stdout is not None
        assert chat.stdout.read(6) == "Paris."
        user.kubectl.lose_the_pod()
        _, errors = chat.communicate(timeout=SECONDS)
        assert chat.returncode == 1
    assert errors == (
        "flexinfer: the port-forward to Service flexinfer-proxy of context test has ended: lost connection to pod; run the command again\n"
    )


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("services/flexinfer-proxy", "has no Service flexinfer-proxy: FlexInfer is not installed there"),
        (f"secrets/{API_KEY_SECRET}", f"has no Secret {API_KEY_SECRET}"),
    ],
)
def test_what_a_cluster_lacks_is_one_sentence_with_the_remedy(
    user: ClusterUser, missing: str, sentence: str
) -> None:
    """Before any port-forward."""
    user.forget(missing)
    done = user.run("--context", "test", "chat", "smollm2", "hello")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr
    assert "`kubectl apply -k deploy/` installs it" in done.stderr
    assert user.kubectl.runs == []


def test_a_secret_without_its_key_is_named(user: ClusterUser) -> None:
    """A user may have created it by hand."""
    user.secret(API_KEY_SECRET, token=b"x")
    done = user.run("--context", "test", "chat", "smollm2", "hello")
    assert done.returncode == 1
    assert f"Secret {API_KEY_SECRET} in flexinfer-system of context test lacks key; delete it" in done.stderr


def test_a_context_that_is_not_there_is_named_with_those_that_are(user: ClusterUser) -> None:
    """For every command that knows clusters."""
    for command in (["chat", "m", "x"], ["tap"], ["gpus"], ["why", "m"], ["lease", "list"]):
        done = user.run("--context", "elsewhere", *command)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1
        assert "contexts has no 'elsewhere' (it has test); correct the name" in done.stderr


def test_without_kubectl_the_command_says_what_to_install(user: ClusterUser, tmp_path: Path) -> None:
    """It is needed for the port-forward alone."""
    done = user.run("--context", "test", "chat", "smollm2", "hello", path=str(tmp_path))
    assert done.returncode == 1
    assert "kubectl is not on PATH" in done.stderr
    assert "https://kubernetes.io/docs/tasks/tools/" in done.stderr


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (
            'Error from server (Forbidden): pods "flexinfer-proxy-0" is forbidden: User "jane" cannot create resource "pods/portforward"',
            "can bind the Role flexinfer-client to this user",
        ),
        (
            "error: timed out waiting for the condition",
            "`kubectl --context test -n flexinfer-system get pods` shows what runs there",
        ),
    ],
)
def test_what_kubectl_says_is_quoted_with_a_remedy(user: ClusterUser, words: str, remedy: str) -> None:
    """A right that is missing, and Pods that do not run."""
    user.kubectl.plan({"flexinfer-proxy": words})
    done = user.run("--context", "test", "chat", "smollm2", "hello")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert words.rpartition("): ")[2].removeprefix("error: ") in done.stderr
    assert remedy in done.stderr


def test_credentials_that_are_not_accepted_are_no_missing_right(user: ClusterUser, tmp_path: Path) -> None:
    """The remedy is another one."""
    config = json.loads(user.api.kubeconfig.read_text())
    config["users"][0]["user"]["token"] = "expired"
    (tmp_path / "config").write_text(json.dumps(config))
    done = user.run("chat", "m", "x", "--context", "test", "--kubeconfig", str(tmp_path / "config"))
    assert done.returncode == 1
    assert "the credentials of context test are not accepted" in done.stderr
    assert "log in to that cluster again" in done.stderr


@pytest.mark.parametrize("command", ["up", "services", "env", "down"])
def test_a_command_of_this_machine_refuses_a_context(user: ClusterUser, command: str) -> None:
    """It would do something else than the user means."""
    done = user.run("--context", "test", command)
    assert done.returncode == 1
    assert f"`flexinfer {command}` is for this machine alone; leave --context out" in done.stderr


def test_a_context_and_a_state_folder_are_two_targets(user: ClusterUser) -> None:
    """One of them is not what the user means."""
    done = user.run("--context", "test", "tap", "--state", "/nowhere")
    assert done.returncode == 1
    assert "leave one of them out" in done.stderr


def test_why_and_lease_use_the_context(user: ClusterUser, tmp_path: Path) -> None:
    """Also where it is not the current one."""
    config = json.loads(user.api.kubeconfig.read_text()) | {"current-context": "broken"}
    (tmp_path / "config").write_text(json.dumps(config))
    user.environment["KUBECONFIG"] = str(tmp_path / "config")
    assert (
        "Model 'absent' not found in namespace default"
        in user.run("--context", "test", "why", "absent").stderr
    )
    assert user.run("lease", "list", "--context", "test").stdout == "no leases\n"


@contextlib.asynccontextmanager
async def a_cluster_with_nats(user: ClusterUser, folder: Path) -> AsyncIterator[tuple[DeployedNats, NatsBus]]:
    """Run NATS as deploy/ configures it, with streams; its Secrets are in the cluster."""
    folder.mkdir()
    async with (
        asyncio.timeout(SECONDS),
        single_server(folder) as server,
        server.joined("watcher") as link,
        server.joined("bootstrap") as bootstrap,
        server.joined("placer") as placer,
    ):
        stream = StateStream(link, bootstrap)
        await stream.open()
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        files = folder / secret_of("tap")
        user.secret(
            secret_of("tap"),
            password=(files / "password").read_bytes(),
            ca_crt=(files / "ca.crt").read_bytes(),
        )
        user.kubectl.plan({"flexinfer-nats": server.port})
        yield server, NatsBus(placer)


async def test_tap_reads_the_nats_of_a_cluster_over_tls(user: ClusterUser, tmp_path: Path) -> None:
    """With the password and the authority of the Secret; the certificate names the Service, not this machine."""
    async with a_cluster_with_nats(user, tmp_path / "nats") as (_, bus):
        step = events.HistoryRecorded(
            namespace="default", name="m", uid="u", service="placer", step="Placed=True", version=1
        )
        assert await bus.publish(step)
        with user.start("--context", "test", "tap") as tap:
            assert tap.stdout is not None
            line = await asyncio.to_thread(tap.stdout.readline)
            assert "flexinfer.history.default.m " in line
            user.kubectl.lose_the_pod()
            _, errors = await asyncio.to_thread(tap.communicate, timeout=SECONDS)
            assert tap.returncode == 1
        assert errors.splitlines()[-1].endswith("has ended: lost connection to pod; run the command again")


async def test_tap_refuses_by_name_what_it_may_not_read(user: ClusterUser, tmp_path: Path) -> None:
    """NATS refuses the subscription; without a message the command would wait indefinitely."""
    async with a_cluster_with_nats(user, tmp_path / "nats"):
        for subject in ("_INBOX.>", "$SYS.>", ">"):
            done = await asyncio.to_thread(user.run, "--context", "test", "tap", subject)
            assert done.returncode == 1
            assert f"tap may not read {subject}: NATS refuses that subject" in done.stderr
            assert "flexinfer.>" in done.stderr


async def test_a_server_with_the_certificate_of_another_cluster_gets_no_password(
    user: ClusterUser, tmp_path: Path
) -> None:
    """What answers at the port may be anything."""
    async with a_cluster_with_nats(user, tmp_path / "nats"):
        (tmp_path / "other").mkdir()
        async with single_server(tmp_path / "other") as other:
            user.kubectl.plan({"flexinfer-nats": other.port})
            done = await asyncio.to_thread(user.run, "--context", "test", "tap")
            assert done.returncode == 1
            assert "does not answer, or refused the credentials" in done.stderr
            assert "authorization" not in (other.folder / "nats-0" / "log").read_text().lower()


async def test_gpus_reads_the_telemetry_of_a_cluster(user: ClusterUser, tmp_path: Path) -> None:
    """By the same way as tap."""
    async with a_cluster_with_nats(user, tmp_path / "nats"):
        done = await asyncio.to_thread(user.run, "gpus", "--context", "test")
        assert done.returncode == 0
        assert "no node is known" in done.stdout
