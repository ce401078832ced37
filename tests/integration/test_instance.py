"""`flexinfer up` as a user meets it: everything answers, comes back when killed, is adopted, and goes down whole."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.api.services import SERVICES
from flexinfer.local.instance import lock_holder
from tests.instance import Running, instance, until

pytestmark = pytest.mark.integration
PROCESSES = ("nats", "api", "node", *SERVICES)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One instance for all tests of this module."""
    with instance(tmp_path_factory.mktemp("instance") / "state", "--separate") as found:
        yield found


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that only waits to be reaped by whoever inherited it does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_process_is_ready_when_up_returns(running: Running) -> None:
    """api, node, nats and each service, with a pid and no restart."""
    rows = running.services()
    assert tuple(rows) == PROCESSES
    assert {(row["health"], row["restarts"]) for row in rows.values()} == {("healthy", 0)}


def test_plain_kubectl_works_with_the_exports(running: Running) -> None:
    """The node is there, and the claim with the small model is made."""
    assert "local" in running.kubectl("get", "nodes", "-o", "name")
    assert running.kubectl("get", "pvc", "-o", "name").split() == ["persistentvolumeclaim/models"]


def test_without_its_token_the_api_refuses(running: Running) -> None:
    """Another user of the machine gets nothing."""
    config = str(running.state / "kubeconfig")
    told = running.kubectl("--kubeconfig", config, "--token", "wrong", "get", "pods", check=False)
    assert told == ""


def test_a_second_up_says_what_runs_and_starts_nothing(running: Running) -> None:
    """--detach succeeds, since everything answers; the foreground has nothing to stay for."""
    former = running.services()
    again = running.flexinfer("up", "--detach")
    assert "is already running" in again.stdout
    assert "export KUBECONFIG=" in again.stdout
    foreground = running.flexinfer("up", check=False)
    assert foreground.returncode == 1
    assert "flexinfer down" in foreground.stderr
    assert running.services() == former


@pytest.mark.parametrize("name", PROCESSES)
def test_a_killed_process_is_back_and_ready_again(running: Running, name: str) -> None:
    """SIGKILL: another process of that name runs within 2 s and answers within 10 s; no other is touched."""
    former = running.services()
    os.kill(former[name]["pid"], signal.SIGKILL)
    until(lambda: running.pid(name) not in {None, former[name]["pid"]}, 2, f"{name} runs again")
    until(lambda: running.services()[name]["health"] == "healthy", 10, f"{name} is ready again")
    until(lambda: {r["health"] for r in running.services().values()} == {"healthy"}, 10, "all are ready")
    now = running.services()
    assert now[name]["restarts"] == former[name]["restarts"] + 1
    others = set(PROCESSES) - {name}
    assert {n: now[n]["pid"] for n in others} == {n: former[n]["pid"] for n in others}


def test_after_a_sigkill_of_up_the_next_one_adopts_what_runs(running: Running) -> None:
    """It says so, keeps every process, and watches over them again."""
    former = {name: row["pid"] for name, row in running.services().items()}
    holder = lock_holder(running.state)
    assert holder
    os.kill(holder, signal.SIGKILL)
    until(lambda: lock_holder(running.state) is None, 5, "the lock is free")
    told = running.flexinfer("up", "--detach", "--separate").stdout
    assert "adopted" in told
    assert {name: row["pid"] for name, row in running.services().items()} == former
    os.kill(former["placer"], signal.SIGKILL)
    until(lambda: running.pid("placer") not in {None, former["placer"]}, 2, "placer runs again")
    until(lambda: running.services()["placer"]["health"] == "healthy", 10, "placer is ready again")


def test_down_stops_everything_and_the_next_up_has_the_same_addresses(tmp_path: Path) -> None:
    """Exports, claims and objects outlive a down."""
    with instance(tmp_path / "state") as running:
        exports = running.environment()
        running.kubectl("create", "configmap", "mine", "--from-literal=a=b")
        pids = [row["pid"] for row in running.services().values()]
        running.flexinfer("down")
        assert {row["health"] for row in running.services().values()} == {"down"}
        assert not [pid for pid in pids if lives(pid)]
        running.flexinfer("up", "--detach")
        assert running.environment() == exports
        assert "configmap/mine" in running.kubectl("get", "configmaps", "-o", "name")


def test_down_also_stops_what_a_killed_up_left_running(tmp_path: Path) -> None:
    """Nobody needs to start it again in order to stop it."""
    with instance(tmp_path / "state") as running:
        assert set(running.services()) == {"nats", "api", "node", "controllers", "proxy"}
        pids = [row["pid"] for row in running.services().values()]
        holder = lock_holder(running.state)
        assert holder
        os.kill(holder, signal.SIGKILL)
        until(lambda: lock_holder(running.state) is None, 5, "the lock is free")
        assert "stopped nats, api, node, controllers, proxy" in running.flexinfer("down").stdout
        assert not [pid for pid in pids if lives(pid)]
