"""Whose a process is, from trees of /proc as kernels and kubelets write them."""

import subprocess
from pathlib import Path

import pytest

from flexinfer.agent.processes import ProcessTable, local_pod_of, pod_of
from flexinfer.events.nodes import DeviceProcess
from tests.machines import a_process

UID = "0c5d8f3a-91f6-4a3e-8d1c-3b6a7f0e2d11"
UNDERSCORED = UID.replace("-", "_")
CONTAINER = "8f14e45fceea167a5a36dedd4bea2543f14e45fceea167a5a36dedd4bea25430"


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(f"0::/kubepods/burstable/pod{UID}/{CONTAINER}", id="cgroupfs, containerd"),
        pytest.param(f"0::/kubepods/pod{UID}/{CONTAINER}", id="cgroupfs, guaranteed"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope",
            id="systemd, containerd",
        ),
        pytest.param(
            f"0::/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UNDERSCORED}.slice/crio-{CONTAINER}.scope/container",
            id="systemd, CRI-O",
        ),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod{UNDERSCORED}.slice/docker-{CONTAINER}.scope",
            id="systemd, docker",
        ),
        pytest.param(
            f"12:pids:/user.slice\n11:memory:/kubepods/burstable/pod{UID}/{CONTAINER}\n0::/", id="version 1"
        ),
        pytest.param(f"0::/kubelet/kubepods/burstable/pod{UID}/{CONTAINER}", id="kind"),
        pytest.param(
            f"0::/../../kubepods-burstable-pod{UNDERSCORED}.slice/cri-containerd-{CONTAINER}.scope",
            id="seen from a container",
        ),
        pytest.param(
            f"0::/kubepods/pod11111111-1111-1111-1111-111111111111/x/kubepods/pod{UID}/{CONTAINER}",
            id="nested",
        ),
    ],
)
def test_a_control_group_names_its_pod(path: str) -> None:
    """In each form that kubelets and runtimes use."""
    assert pod_of(f"{path}\n") == UID


def test_a_pod_of_a_manifest_on_the_node_has_a_uid_without_dashes() -> None:
    """The kubelet makes it from the manifest."""
    uid = "5f0f7d0b7d1f4b7c8f6d0a1b2c3d4e5f"
    assert pod_of(f"0::/kubepods/burstable/pod{uid}/{CONTAINER}") == uid


@pytest.mark.parametrize(
    "path",
    [
        "0::/user.slice/user-1000.slice/session-3.scope",
        "0::/system.slice/podman-8f14e45fceea167a.scope",
        f"0::/machine.slice/libpod-{CONTAINER}.scope",
        "",
    ],
)
def test_a_process_outside_kubernetes_has_no_pod(path: str) -> None:
    """A desktop, a game, a container of podman."""
    assert pod_of(path) == ""


def test_a_process_of_the_local_node_names_its_pod_in_its_environment() -> None:
    """There are no containers: the kubelet there puts the folder of the run into it."""
    assert local_pod_of(f"HOME=/tmp\0LOCALKUBE_RUN=/state/runs/{UID}/engine/1\0PATH=/bin\0") == UID
    assert local_pod_of(f"XLOCALKUBE_RUN=/state/runs/{UID}/engine/1\0") == ""
    assert local_pod_of("HOME=/tmp\0") == ""


def test_a_running_process_of_the_local_node_is_its_pods() -> None:
    """By the real /proc."""
    environment = {"LOCALKUBE_RUN": f"/state/runs/{UID}/engine/1"}
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"runs\n")
        assert process.stdout.readline() == b"runs\n"  # the program has replaced the fork
        table = ProcessTable()
        described = table.describe(process.pid, table.started(process.pid), 0)
        process.communicate(b"")
    assert (described.name, described.pod_uid, described.started > 0) == ("cat", UID, True)


def test_a_process_is_described_by_name_start_and_pod(tmp_path: Path) -> None:
    """A name may hold spaces and parentheses."""
    a_process(tmp_path, 4711, "llama) (server", started=123456, cgroup=f"0::/kubepods/pod{UID}/{CONTAINER}")
    table = ProcessTable(tmp_path)
    started = table.started(4711)
    assert table.describe(4711, started, 3 << 30) == DeviceProcess(
        pid=4711, used_mb=3072, name="llama) (server", started=123456, pod_uid=UID
    )


def test_a_pid_that_was_given_to_another_process_gets_neither_its_name_nor_its_pod(tmp_path: Path) -> None:
    """Only pid and start together are one process."""
    a_process(tmp_path, 4711, "llama-server", started=100)
    table = ProcessTable(tmp_path)
    a_process(tmp_path, 4711, "bash", started=900, cgroup=f"0::/kubepods/pod{UID}/{CONTAINER}")
    assert table.describe(4711, 100, 0) == DeviceProcess(pid=4711, started=100)


def test_a_process_that_cannot_be_seen_is_a_pid(tmp_path: Path) -> None:
    """As in a container without the node's processes."""
    table = ProcessTable(tmp_path)
    assert (table.started(7), table.describe(7, 0, 1 << 20)) == (0, DeviceProcess(pid=7, used_mb=1))
