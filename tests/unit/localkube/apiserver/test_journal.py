"""The journal restores every acknowledged write of the store."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localkube.apiserver.errors import ApiError
from localkube.apiserver.journal import Journal, JournalError, Record
from localkube.apiserver.resources import Object
from tests.unit.localkube.apiserver.stage import Stage, a_widget

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "spec", "apply", "delete", "again", "namespace"]),
        st.sampled_from("abc"),
        st.sampled_from(["red", "blue"]),
    ),
    max_size=20,
)


def snapshot(stage: Stage) -> tuple[int, list[Any]]:
    """Return the revision and all objects."""
    return stage.store.revision, sorted(
        ((place, key, obj) for place, key, obj in stage.store.each()), key=lambda entry: entry[:2]
    )


def act(stage: Stage, step: tuple[str, str, str]) -> None:
    """Make a write, which the store may refuse."""
    what, name, colour = step
    with contextlib.suppress(ApiError):
        if what == "create":
            stage.create("widgets", a_widget(name, colour=colour))
        elif what == "spec":
            stage.merge("widgets", name, {"spec": {"colour": colour}})
        elif what == "apply":
            stage.apply(colour, {"spec": {"size": len(colour)}}, name=name, force=True)
        elif what == "delete":
            stage.delete("widgets", name)
        elif what == "namespace":
            stage.create("namespaces", {"metadata": {"name": name}})


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_replay_restores_the_store(steps: Any) -> None:
    """After any writes and restarts: the same objects, the same revision."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        journal = Journal(path)
        stage = Stage(journal)
        for step in steps:
            if step[0] == "again":
                journal.close()
                journal = Journal(path)
                stage = Stage(journal)
            act(stage, step)
        before = snapshot(stage)
        journal.close()
        with Journal(path) as again:
            assert snapshot(Stage(again)) == before


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(0, 4000))
def test_a_torn_file_loses_only_incomplete_records(steps: Any, cut: int) -> None:
    """A file truncated anywhere after its header restores the store as of the last complete line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with Journal(path) as journal:
            stage = Stage(journal)
            start = path.stat().st_size
            states = {start: snapshot(stage)}  # by size of the file
            for step in steps:
                act(stage, step)
                states[path.stat().st_size] = snapshot(stage)
        size = max(start, path.stat().st_size - cut)
        os.truncate(path, size)
        with Journal(path) as again:
            assert snapshot(Stage(again)) == states[max(each for each in states if each <= size)]


def test_watches_resume_after_a_restart(tmp_path: Path) -> None:
    """From any revision since the last compaction; an older one is Expired."""
    with Journal(tmp_path / "journal") as journal:
        stage = Stage(journal)
        start = str(stage.store.revision)
        live = stage.watch("widgets")
        stage.create("widgets", a_widget())
        stage.merge("widgets", "w", {"spec": {"colour": "red"}})
        stage.delete("widgets", "w")
    with Journal(tmp_path / "journal") as journal:
        stage = Stage(journal)
        assert stage.watch("widgets", since=start) == live
        last = str(stage.store.revision)
    with Journal(tmp_path / "journal") as journal:
        stage = Stage(journal)
        assert stage.watch("widgets", since=last) == []
        with pytest.raises(ApiError) as error:
            stage.watch("widgets", since=start)
        assert error.value.code == 410


def test_serves_restored_definitions(tmp_path: Path) -> None:
    """A custom object is restored with its definition."""
    with Journal(tmp_path / "journal") as journal:
        Stage(journal).create("widgets", a_widget(colour="red"))
    with Journal(tmp_path / "journal") as journal:
        assert Stage(journal).get("widgets", "w")["spec"]["colour"] == "red"


def test_compacts_a_large_file(tmp_path: Path) -> None:
    """The size of the file is bounded by a multiple of the size of the live objects."""
    path = tmp_path / "journal"
    with Journal(path, min_compaction_bytes=20_000) as journal:
        stage = Stage(journal)
        stage.create("widgets", a_widget())
        for number in range(200):
            stage.merge("widgets", "w", {"spec": {"size": number}})
        before = snapshot(stage)
        assert path.stat().st_size < 40_000
    with Journal(path) as journal:
        assert snapshot(Stage(journal)) == before


def test_refuses_a_second_process(tmp_path: Path) -> None:
    """Two processes must not write one file."""
    with (
        Journal(tmp_path / "journal"),
        pytest.raises(JournalError, match="another process uses this journal"),
    ):
        Journal(tmp_path / "journal")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"journal":2,"revision":0}\n', id="another format"),
        pytest.param(b"hello\n", id="another file"),
        pytest.param(
            b'{"journal":1,"revision":0}\nnonsense\n{"revision":1,"group":"","plural":"a"}\n', id="damaged"
        ),
    ],
)
def test_refuses_a_foreign_or_damaged_file(tmp_path: Path, content: bytes) -> None:
    """The error names the line, and the file is left as it is."""
    (tmp_path / "journal").write_bytes(content)
    with Journal(tmp_path / "journal") as journal, pytest.raises(JournalError):
        list(journal.replay())
    assert (tmp_path / "journal").read_bytes() == content


def test_a_failed_write_is_not_acknowledged(tmp_path: Path) -> None:
    """On a full disk the write fails; the store does not change and sends no event."""
    code = """
import resource, signal, sys
from pathlib import Path
from localkube.apiserver.journal import Journal, JournalError
from tests.unit.localkube.apiserver.stage import Stage, a_widget
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Journal(Path(sys.argv[1])) as journal:
    stage = Stage(journal)
    size = Path(sys.argv[1]).stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, size + 100))
    events = stage.watch("widgets")
    try:
        stage.create("widgets", a_widget())
    except JournalError:
        assert (stage.names("widgets"), events, Path(sys.argv[1]).stat().st_size) == ([], [], size)
        print("refused")
"""
    completed = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal")], capture_output=True, text=True, check=True
    )
    assert completed.stdout == "refused\n"


def test_a_killed_process_loses_no_acknowledged_write(tmp_path: Path) -> None:
    """After a SIGKILL between or during writes, every acknowledged revision is restored."""
    code = """
import sys
from pathlib import Path
from localkube.apiserver.journal import Journal
from tests.unit.localkube.apiserver.stage import Stage, a_widget
stage = Stage(Journal(Path(sys.argv[1])))
stage.create("widgets", a_widget())
number = 0
while True:
    number += 1
    print(stage.merge("widgets", "w", {"spec": {"size": number}})["metadata"]["resourceVersion"], flush=True)
"""
    path = tmp_path / "journal"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        acknowledged = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in process.stdout if line.endswith("\n")]
    with Journal(path) as journal:
        stage = Stage(journal)
        assert stage.store.revision >= max(acknowledged)
        assert stage.get("widgets", "w")["metadata"]["resourceVersion"] == str(stage.store.revision)


def test_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """It contains Secrets."""
    with Journal(tmp_path / "journal") as journal:
        Stage(journal)
        assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_writes_each_record_as_a_line(tmp_path: Path) -> None:
    """The format of the file."""
    obj: Object = {"metadata": {"name": "a", "resourceVersion": "7"}}
    with Journal(tmp_path / "journal") as journal:
        journal.compact(6, [])
        journal.append(Record(7, "", "pods", obj))
        journal.append(Record(8, "", "pods", None, "", "a"))
    assert (tmp_path / "journal").read_text().splitlines() == [
        '{"journal":1,"revision":6}',
        '{"revision":7,"group":"","plural":"pods","obj":{"metadata":{"name":"a","resourceVersion":"7"}}}',
        '{"revision":8,"group":"","plural":"pods","name":"a"}',
    ]
