"""`flexinfer up` where another process runs an instance in the folder already: which one, how to replace it, and when it is waited for."""

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.cli.__main__ import main
from flexinfer.local import instance as instances
from flexinfer.local.installation import Installation, build_of, installed
from flexinfer.local.lock import locked
from flexinfer.local.supervisor import record
from tests.instance import BIN
from tests.patience import patient

HOLDER = """
import sys
from pathlib import Path
from flexinfer.local.lock import locked
with locked(Path(sys.argv[1])) as acquired:
    print(acquired, flush=True)
    sys.stdin.read()
"""
OLDER = Installation(version="0.0.9", build="0123456789ab", folder="/opt/older")


def recorded(state: Path, installation: Installation, pid: int) -> None:
    """Write what the `flexinfer up` of a process records."""
    started = record.Started(installation=installation, pid=pid)
    content = record.encode(record.Record(boot=record.boot_id(), started=started))
    instances.ensure(state).record.write_bytes(content)


@pytest.mark.parametrize("detach", [[], ["--detach", "--timeout", "0"]])
@pytest.mark.parametrize(
    ("running", "named"),
    [
        (OLDER, "FlexInfer 0.0.9 (build 0123456789ab in /opt/older) is already running"),
        (Installation(), "FlexInfer of an earlier version (its build is not recorded) is already running"),
    ],
)
def test_another_build_that_runs_is_named_with_how_to_replace_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], running: Installation, named: str, detach: list[str]
) -> None:
    """Also with --detach, to which a running instance is a success: what was asked for is not what runs."""
    recorded(tmp_path, running, os.getpid())
    with locked(tmp_path):
        assert main(["up", "--state", str(tmp_path), *detach]) == 1
    text = capsys.readouterr().err
    assert f"{named} in {tmp_path} (process {os.getpid()})" in text
    assert f"and this is {installed().text}" in text
    named_folder = f"--state {tmp_path}"
    assert f"run `flexinfer down {named_folder}`, then `flexinfer up {named_folder}` again" in text


@pytest.mark.parametrize("who", ["the same build", "an earlier process"])
def test_the_same_build_and_the_record_of_a_process_before_are_no_other_build(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    """A process that has just taken the folder has recorded nothing yet: what the file says is of the one before it."""
    recorded(tmp_path, *((installed(), os.getpid()) if who == "the same build" else (OLDER, 1)))
    with locked(tmp_path):
        assert main(["up", "--state", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    stop = f"`flexinfer down --state {tmp_path}` stops it"
    assert f"nothing was started: it is already running; {stop}" in text


def test_a_file_that_changes_is_another_build(tmp_path: Path) -> None:
    """A checkout has the same version then. Compiled code is none of it."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "code.py").write_text("one")
    first = build_of([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "code.pyc").write_text("compiled")
    assert build_of([tmp_path]) == first
    (tmp_path / "a" / "code.py").write_text("two")
    assert build_of([tmp_path]) != first
    assert (installed(), installed().folder) == (installed(), sys.prefix)
    assert installed().version == importlib.metadata.version("flexinfer")


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that has taken the folder, and starts nothing."""
    words = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        yield process
        process.kill()


def test_an_up_that_starts_and_ends_is_no_longer_waited_for(
    tmp_path: Path, holder: "subprocess.Popen[str]"
) -> None:
    """Whether or not it has made the instance yet."""
    words = [str(BIN / "flexinfer"), "up", "--detach", "--state", str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True) as waiting:
        assert waiting.stdout is not None
        line = waiting.stdout.readline()
        assert line == (
            f"FlexInfer in {tmp_path} is being started by process {holder.pid}: waiting until all of it is ready\n"
        )
        holder.communicate("", timeout=patient(10))
        _, errors = waiting.communicate(timeout=patient(20))
    assert waiting.returncode == 1
    assert f"process {holder.pid}, which was starting FlexInfer in {tmp_path}, has ended before" in errors


def test_an_up_that_does_not_become_ready_is_named_with_what_is_late(
    tmp_path: Path, holder: "subprocess.Popen[str]", capsys: pytest.CaptureFixture[str]
) -> None:
    """Not as something that was not started for no reason."""
    assert main(["up", "--detach", "--timeout", "0", "--state", str(tmp_path)]) == 1
    assert "(it is just being created)" in capsys.readouterr().err
    assert main(["up", "--state", str(tmp_path)]) == 1
    assert f"process {holder.pid} is just creating FlexInfer in {tmp_path}" in capsys.readouterr().err
    instances.ensure(tmp_path)
    assert main(["up", "--detach", "--timeout", "0", "--state", str(tmp_path)]) == 1
    text = capsys.readouterr().err
    assert (
        f"already running in {tmp_path} (process {holder.pid}), but not all of it was ready within 0s" in text
    )
    assert "(nats is down; " in text
    assert f"stop it with `flexinfer down --state {tmp_path}`" in text
