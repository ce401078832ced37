"""The API server and its store are killed, and stay away, while a Model serves: nothing is lost at the door, and the world is right again soon."""

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

from benchmarks.instance import Instance
from tests.instance import until

AWAY_SECONDS, RIGHT_SECONDS = 6.0, 15.0
COLD_SECONDS = 5
BETWEEN_SECONDS, MOST_QUESTIONS = 0.3, 300


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """An instance on a real control plane, with one Model that serves and one that sleeps."""
    running = Instance(tmp_path_factory.mktemp("outage"), "--api", "real")
    try:
        running.apply("steady")
        running.apply("sleeper", idle="1s")
        patch = json.dumps({"spec": {"serverless": {"coldStartTimeout": f"{COLD_SECONDS}s"}}})
        running.kubectl("patch", "mdl", "sleeper", "--type=merge", "-p", patch)
        running.until("steady", "condition=Ready", 90)
        running.until("sleeper", "jsonpath={.status.phase}=Idle", 90)
        yield running
    finally:
        running.down()


class Asking(threading.Thread):
    """Somebody who asks a Model again and again."""

    def __init__(self, road: Instance) -> None:
        super().__init__(daemon=True)
        self._road, self._enough = road, threading.Event()
        self.answers: list[int] = []

    def run(self) -> None:
        """Ask until it is enough."""
        while not self._enough.wait(BETWEEN_SECONDS) and len(self.answers) < MOST_QUESTIONS:
            self.answers.append(asked(self._road, "steady")[0])

    def finish(self) -> list[int]:
        """Return the status of every answer."""
        self._enough.set()
        self.join(60)
        return self.answers


def asked(road: Instance, model: str) -> tuple[int, Any]:
    """Ask once; returns status and headers."""
    environment = road.environment
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {environment['OPENAI_API_KEY']}",
    }
    request = urllib.request.Request(
        f"{environment['OPENAI_BASE_URL']}/chat/completions", json.dumps(body).encode(), headers
    )
    try:
        with urllib.request.urlopen(request, timeout=90) as answer:
            answer.read()
            return answer.status, answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers


def pid(road: Instance, name: str) -> int:
    """Return the process of a name, 0 while it has none."""
    return int(next(s["pid"] or 0 for s in road.services() if s["name"] == name))


def health(road: Instance, name: str) -> str:
    """Return what a process says of itself."""
    return str(next(s["health"] for s in road.services() if s["name"] == name))


def phases(road: Instance) -> dict[str, str]:
    """Return the phase of every Model."""
    items = json.loads(road.kubectl("get", "mdl", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["status"].get("phase", "") for item in items}


@contextlib.contextmanager
def away(road: Instance, victim: str) -> Iterator[None]:
    """Kill a process and keep it away for the length of the block."""
    os.kill(road.supervisor, signal.SIGSTOP)
    try:
        os.kill(pid(road, victim), signal.SIGKILL)
        yield
    finally:
        os.kill(road.supervisor, signal.SIGCONT)


@pytest.mark.parametrize("victim", ["kube-apiserver", "etcd"])
def test_no_answer_is_lost_and_every_phase_is_right_again(road: Instance, victim: str) -> None:
    """A cold start meanwhile is answered 503, with when to ask again."""
    asking = Asking(road)
    asking.start()
    with away(road, victim):
        gone = time.monotonic()
        status, headers = asked(road, "sleeper")
        assert status == 503
        assert int(headers["Retry-After"]) > 0
        until(
            lambda: time.monotonic() - gone >= AWAY_SECONDS, 60, "it was away for longer than a Lease is good"
        )
    until(lambda: health(road, "kube-apiserver") == "healthy", 60, f"{victim} is back")
    right = {"steady": "Ready", "sleeper": "Idle"}
    until(lambda: phases(road) == right, RIGHT_SECONDS, f"every phase is right again: {phases(road)}")
    answers = asking.finish()
    assert len(answers) > AWAY_SECONDS / (2 * BETWEEN_SECONDS)
    assert set(answers) == {200}


def test_afterwards_a_sleeper_wakes_as_ever(road: Instance) -> None:
    """All of our services act again; kube-scheduler's own watches come back after a back-off that grew while the API was away."""
    patch = json.dumps({"spec": {"serverless": {"coldStartTimeout": "60s"}}})
    road.kubectl("patch", "mdl", "sleeper", "--type=merge", "-p", patch)
    generation = road.kubectl("get", "mdl", "sleeper", "-o", "jsonpath={.metadata.generation}")
    road.until("sleeper", f"jsonpath={{.status.observedGeneration}}={generation}")
    assert asked(road, "sleeper")[0] == 200


def test_a_proxy_restarted_meanwhile_says_that_it_is_not_ready(road: Instance) -> None:
    """What the bus remembers may be older than what the API server will say; a Model that serves is answered all the same."""
    former = pid(road, "proxy")
    folder = Path(f"/proc/{former}")
    words = (folder / "cmdline").read_text().split("\0")[:-1]
    told = (folder / "environ").read_text().split("\0")[:-1]
    environment = dict(line.split("=", 1) for line in told)
    port_file = Path(environment["FLEXINFER_HEALTH_PORT_FILE"])
    with away(road, "kube-apiserver"):
        os.kill(former, signal.SIGKILL)
        port_file.unlink()
        proxy = subprocess.Popen(words, env=environment)
        try:
            until(port_file.exists, 20, "it says where its health is told")
            until(lambda: answered(road), 20, "it answers for a Model that serves")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://127.0.0.1:{int(port_file.read_text())}/readyz", timeout=5)
            with refused.value:
                assert refused.value.code == 503
        finally:
            proxy.kill()
            proxy.wait()
    until(lambda: health(road, "proxy") == "healthy", 60, "it is ready once the API server has answered")
    assert asked(road, "steady")[0] == 200


def answered(road: Instance) -> bool:
    """Tell whether the door answers."""
    try:
        return asked(road, "steady")[0] == 200
    except OSError:
        return False
