"""A disk without room: what runs keeps running, changes are rejected, and everything is whole once there is room.

A process whose file size is limited to nothing has each write rejected by the kernel, as on a full disk.
"""

import contextlib
import os
import resource
import signal
import subprocess
from collections.abc import Iterator

import pytest

from flexinfer.local.lock import lock_holder
from tests.instance import BIN, Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One instance for all tests of this module."""
    with instance(tmp_path_factory.mktemp("full") / "state") as running:
        yield running


def limit(pid: int, size: int) -> None:
    """Let no file of a process grow beyond a size."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def create(running: Running, name: str) -> str:
    """Create a ConfigMap; returns kubectl's output, errors too."""
    command = [str(BIN / "kubectl"), "create", "configmap", name]
    done = subprocess.run(
        command, env=running.environment(), capture_output=True, text=True, check=False, timeout=patient(60)
    )
    return done.stdout + done.stderr


def test_a_write_that_finds_no_room_ends_no_process(running: Running) -> None:
    """Reads continue, the supervisor restarts what ends, and its record is written later."""
    supervisor = lock_holder(running.state)
    api = running.pid("kubernetes")
    proxy = running.pid("proxy")
    assert supervisor
    assert api
    assert proxy
    limit(api, 0)
    limit(supervisor, 0)
    refusal = create(running, "refused")
    assert "cannot be written: File too large; nothing was changed" in refusal
    assert "free space on that disk and try again" in refusal
    assert "namespace/default" in running.kubectl("get", "namespaces", "-o", "name")
    os.kill(proxy, signal.SIGKILL)
    until(lambda: running.services()["proxy"]["pid"] != proxy, 30, "its end is seen")
    limit(supervisor, resource.RLIM_INFINITY)
    limit(api, resource.RLIM_INFINITY)
    assert lock_holder(running.state) == supervisor
    until(lambda: running.pid("proxy") not in (None, proxy), 60, "its successor is recorded")
    with contextlib.suppress(
        ProcessLookupError
    ):  # it was started with that of the supervisor, and may have ended by it
        limit(running.pid("proxy") or 0, resource.RLIM_INFINITY)
    until(lambda: {row["health"] for row in running.services().values()} == {"healthy"}, 60, "all healthy")
    assert create(running, "kept") == "configmap/kept created\n"
    assert running.pid("kubernetes") == api
