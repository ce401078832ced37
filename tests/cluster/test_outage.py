"""The API server or etcd is unavailable while a Model serves: no request fails, and every status recovers."""

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.instance import STOPPED, Instance
from tests.instance import until
from tests.patience import patient

OUTAGE_SECONDS, RECOVERY_SECONDS = 6.0, 15.0
COLD_SECONDS = 5
INTERVAL_SECONDS, MOST_REQUESTS = 0.3, 300


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance on a real control plane with one Model that is serving and one that is scaled to zero."""
    running = Instance(tmp_path_factory.mktemp("outage"), "--api", "real")
    try:
        running.apply("steady")
        running.apply("idle", idle="1s")
        patch = json.dumps({"spec": {"serverless": {"coldStartTimeout": f"{COLD_SECONDS}s"}}})
        running.kubectl("patch", "mdl", "idle", "--type=merge", "-p", patch)
        running.until("steady", "condition=Ready", 90)
        running.until("idle", STOPPED, 90)
        yield running
    finally:
        running.down()


class Client(threading.Thread):
    """A client that sends requests to a Model continuously."""

    def __init__(self, instance: Instance) -> None:
        super().__init__(daemon=True)
        self._instance, self._stopping = instance, threading.Event()
        self.answers: list[int] = []

    def run(self) -> None:
        """Send requests until `finish` is called."""
        while not self._stopping.wait(INTERVAL_SECONDS) and len(self.answers) < MOST_REQUESTS:
            self.answers.append(ask(self._instance, "steady")[0])

    def finish(self) -> list[int]:
        """Stop and return the HTTP status of every response."""
        self._stopping.set()
        self.join(patient(60))
        return self.answers


def ask(instance: Instance, model: str) -> tuple[int, Any]:
    """Send one request; return HTTP status and headers."""
    environment = instance.environment
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {environment['OPENAI_API_KEY']}",
    }
    request = urllib.request.Request(
        f"{environment['OPENAI_BASE_URL']}/chat/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=patient(90)) as answer:
            answer.read()
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def pid(instance: Instance, name: str) -> int:
    """Return the pid of a process, 0 while it does not run."""
    return int(next(s["pid"] or 0 for s in instance.services() if s["name"] == name))


def health(instance: Instance, name: str) -> str:
    """Return the health of a process."""
    return str(next(s["health"] for s in instance.services() if s["name"] == name))


def phases(instance: Instance) -> dict[str, str]:
    """Return the phase of every Model; nothing while the API server does not tell."""
    try:
        items = json.loads(instance.kubectl("get", "mdl", "-o", "json"))["items"]
    except subprocess.CalledProcessError:
        return {}
    return {item["metadata"]["name"]: item["status"].get("phase", "") for item in items}


@contextlib.contextmanager
def stopped(instance: Instance, victim: str) -> Iterator[None]:
    """Kill a process and prevent its restart for the duration of the block."""
    os.kill(instance.supervisor, signal.SIGSTOP)
    try:
        os.kill(pid(instance, victim), signal.SIGKILL)
        yield
    finally:
        os.kill(instance.supervisor, signal.SIGCONT)


@pytest.mark.parametrize("victim", ["kube-apiserver", "etcd"])
def test_no_request_fails_and_every_phase_recovers(instance: Instance, victim: str) -> None:
    """A request that needs a cold start meanwhile gets 503 with Retry-After."""
    client = Client(instance)
    client.start()
    with stopped(instance, victim):
        killed = time.monotonic()
        status, headers = ask(instance, "idle")
        assert status == 503
        assert int(headers["Retry-After"]) > 0
        until(
            lambda: time.monotonic() - killed >= OUTAGE_SECONDS,
            60,
            "the outage has lasted longer than a Lease",
        )
    until(lambda: health(instance, "kube-apiserver") == "healthy", 60, f"{victim} is healthy")
    expected = {"steady": "Ready", "idle": "Idle"}
    until(
        lambda: phases(instance) == expected,
        RECOVERY_SECONDS,
        "every phase has recovered",
    )
    answers = client.finish()
    assert len(answers) > OUTAGE_SECONDS / (2 * INTERVAL_SECONDS)
    assert set(answers) == {200}


def test_a_cold_start_works_after_the_outage(instance: Instance) -> None:
    """All components act again; kube-scheduler reconnects after a back-off that grew during the outage."""
    patch = json.dumps({"spec": {"serverless": {"coldStartTimeout": "60s"}}})
    instance.kubectl("patch", "mdl", "idle", "--type=merge", "-p", patch)
    generation = instance.kubectl("get", "mdl", "idle", "-o", "jsonpath={.metadata.generation}")
    instance.until("idle", f"jsonpath={{.status.observedGeneration}}={generation}")
    assert ask(instance, "idle")[0] == 200


def test_a_proxy_restarted_during_an_outage_is_not_ready(instance: Instance) -> None:
    """The state stream may be older than the API server's state.

    Requests to a Model that is serving succeed all the same.
    """
    previous = pid(instance, "proxy")
    folder = Path(f"/proc/{previous}")
    words = (folder / "cmdline").read_text().split("\0")[:-1]
    variables = (folder / "environ").read_text().split("\0")[:-1]
    environment = dict(line.split("=", 1) for line in variables)
    port_file = Path(environment["FLEXINFER_HEALTH_PORT_FILE"])
    with stopped(instance, "kube-apiserver"):
        os.kill(previous, signal.SIGKILL)
        port_file.unlink()
        proxy = subprocess.Popen(words, env=environment)
        try:
            until(port_file.exists, 20, "the proxy has written its health port")
            until(lambda: answered(instance), 20, "requests to a Model that is serving succeed")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(
                    f"http://127.0.0.1:{int(port_file.read_text())}/readyz", timeout=patient(5)
                )
            with refused.value:
                assert refused.value.code == 503
        finally:
            proxy.kill()
            proxy.wait()
    until(
        lambda: health(instance, "proxy") == "healthy",
        60,
        "the proxy is ready as soon as the API server responds",
    )
    assert ask(instance, "steady")[0] == 200


def answered(instance: Instance) -> bool:
    """Return whether a request through the proxy succeeds."""
    try:
        return ask(instance, "steady")[0] == 200
    except OSError:
        return False
