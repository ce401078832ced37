"""`flexinfer up` and `down`: all processes become ready, are restarted when killed, adopted and stopped."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.api.services import SERVICES
from flexinfer.local.lock import lock_holder
from tests.instance import BIN, Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.integration
PROCESSES = ("nats", "api", "node", *SERVICES)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One instance for all tests of this module."""
    with instance(tmp_path_factory.mktemp("instance") / "state", "--separate") as running:
        yield running


def lives(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_process_is_ready_when_up_returns(running: Running) -> None:
    """The local API, the node, nats-server and each component: healthy and never restarted."""
    rows = json.loads(running.flexinfer("services", "-o", "json").stdout)
    assert tuple(row["name"] for row in rows) == PROCESSES
    assert {(row["health"], row["restarts"]) for row in rows} == {("healthy", 0)}
    assert rows == list(running.services().values())


def test_kubectl_works_with_the_exports(running: Running) -> None:
    """The node and the PVC with the small model exist."""
    assert "local" in running.kubectl("get", "nodes", "-o", "name")
    assert running.kubectl("get", "pvc", "-o", "name").split() == ["persistentvolumeclaim/models"]


def test_the_api_refuses_a_wrong_token(running: Running) -> None:
    """Another user of the machine cannot read anything."""
    config = str(running.state / "kubeconfig")
    output = running.kubectl("--kubeconfig", config, "--token", "wrong", "get", "pods", check=False)
    assert output == ""


def test_a_second_up_reports_the_running_instance_and_starts_nothing(running: Running) -> None:
    """With --detach it succeeds, in the foreground it fails."""
    previous = running.services()
    again = running.flexinfer("up", "--detach")
    assert "is already running" in again.stdout
    assert "export KUBECONFIG=" in again.stdout
    foreground = running.flexinfer("up", check=False)
    assert foreground.returncode == 1
    assert "flexinfer down" in foreground.stderr
    other = running.flexinfer("up", "--detach", "--audit", check=False)
    assert (other.returncode, "--audit is not set" in other.stderr) == (1, True)
    assert running.flexinfer("up", "--detach", "--separate").returncode == 0
    assert running.services() == previous


def test_two_that_start_an_instance_at_once_return_when_it_is_ready(tmp_path: Path) -> None:
    """One of them starts it, the other waits for that: each has promised that everything is ready."""
    with instance(tmp_path / "state") as running:
        running.flexinfer("down")
        words = [str(BIN / "flexinfer"), "up", "--detach", "--state", str(running.state)]
        pipe = subprocess.PIPE
        both = [subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
        outputs = [one.communicate(timeout=patient(120)) for one in both]
        assert [one.returncode for one in both] == [0, 0], outputs
        assert {row["health"] for row in running.services().values()} == {"healthy"}
        assert all("export KUBECONFIG=" in output for output, _ in outputs)
        assert sum("is already running" in output for output, _ in outputs) == 1


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_is_restarted_and_ready(running: Running, name: str) -> None:
    """After a SIGKILL a new process runs within 2 s and is healthy within 10 s.

    No other process is affected.
    """
    previous = running.services()
    os.kill(previous[name]["pid"], signal.SIGKILL)
    until(lambda: running.pid(name) not in {None, previous[name]["pid"]}, 2, f"{name} runs again")
    until(lambda: running.services()[name]["health"] == "healthy", 10, f"{name} is healthy")
    until(lambda: {r["health"] for r in running.services().values()} == {"healthy"}, 10, "all are healthy")
    now = running.services()
    assert now[name]["restarts"] == previous[name]["restarts"] + 1
    others = set(PROCESSES) - {name}
    assert {n: now[n]["pid"] for n in others} == {n: previous[n]["pid"] for n in others}


def test_after_a_sigkill_of_up_the_next_one_adopts_the_processes(running: Running) -> None:
    """It reports that, keeps every process and supervises them again."""
    previous = {name: row["pid"] for name, row in running.services().items()}
    holder = lock_holder(running.state)
    assert holder
    os.kill(holder, signal.SIGKILL)
    until(lambda: lock_holder(running.state) is None, 5, "the lock is free")
    output = running.flexinfer("up", "--detach", "--separate").stdout
    assert "adopted" in output
    assert {name: row["pid"] for name, row in running.services().items()} == previous
    os.kill(previous["placer"], signal.SIGKILL)
    until(lambda: running.pid("placer") not in {None, previous["placer"]}, 2, "placer runs again")
    until(lambda: running.services()["placer"]["health"] == "healthy", 10, "placer is healthy")


def test_down_stops_everything_and_the_next_up_has_the_same_addresses(tmp_path: Path) -> None:
    """Exports, PVCs and objects outlive a `down`, and a SIGKILL of the process of API server and node."""
    with instance(tmp_path / "state") as running:
        exports = running.environment()
        running.kubectl("create", "configmap", "mine", "--from-literal=a=b")
        former = running.services()["kubernetes"]["pid"]
        os.kill(former, signal.SIGKILL)
        until(lambda: running.pid("kubernetes") not in {None, former}, 5, "kubernetes runs again")
        until(
            lambda: {r["health"] for r in running.services().values()} == {"healthy"}, 20, "all are healthy"
        )
        assert "configmap/mine" in running.kubectl("get", "configmaps", "-o", "name")
        pids = [row["pid"] for row in running.services().values()]
        running.flexinfer("down")
        assert {row["health"] for row in running.services().values()} == {"down"}
        assert not [pid for pid in pids if lives(pid)]
        running.flexinfer("up", "--detach")
        assert running.environment() == exports
        assert "configmap/mine" in running.kubectl("get", "configmaps", "-o", "name")


def test_down_also_stops_the_processes_of_a_killed_up(tmp_path: Path) -> None:
    """Without another `up` first."""
    with instance(tmp_path / "state") as running:
        assert set(running.services()) == {"nats", "kubernetes", "controllers", "proxy"}
        pids = [row["pid"] for row in running.services().values()]
        holder = lock_holder(running.state)
        assert holder
        os.kill(holder, signal.SIGKILL)
        until(lambda: lock_holder(running.state) is None, 5, "the lock is free")
        assert "stopped nats, kubernetes, controllers, proxy" in running.flexinfer("down").stdout
        assert not [pid for pid in pids if lives(pid)]


def test_check_finds_everything_that_a_model_needs_on_this_machine(running: Running) -> None:
    """By the instance's state folder and by its kubeconfig alone; a process that is down is missing."""
    report = running.flexinfer("check").stdout
    assert "nothing that a Model needs is missing" in report
    assert f"{len(PROCESSES)} processes are healthy" in report
    assert "the default StorageClass is flexinfer-local" in report
    found = json.loads(running.flexinfer("check", "-o", "json").stdout)
    assert {one["status"] for one in found} <= {"ok", "warning"}


def test_an_empty_config_for_litellm_says_why(running: Running) -> None:
    """On stderr, since stdout is the config."""
    done = running.flexinfer("litellm", "render")
    assert done.stdout == "model_list: []\n"
    assert "no Model has spec.litellm" in done.stderr
