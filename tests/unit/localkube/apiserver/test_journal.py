"""The journal brings the store back as its clients were told it is."""

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
    """Return all that a client can see."""
    return stage.store.revision, sorted(
        ((place, key, obj) for place, key, obj in stage.store.each()), key=lambda entry: entry[:2]
    )


def act(stage: Stage, step: tuple[str, str, str]) -> None:
    """Write something, refused or not."""
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
def test_replaying_gives_the_very_same_store(steps: Any) -> None:
    """Whatever was written, and however often it was started again meanwhile: same objects, same revision."""
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
def test_a_torn_end_loses_only_what_was_not_acknowledged(steps: Any, cut: int) -> None:
    """A file cut anywhere after its start gives the store as it was after its last whole line."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal"
        with Journal(path) as journal:
            stage = Stage(journal)
            start = path.stat().st_size
            states = {start: snapshot(stage)}  # size of the file -> what was acknowledged then
            for step in steps:
                act(stage, step)
                states[path.stat().st_size] = snapshot(stage)
        size = max(start, path.stat().st_size - cut)
        os.truncate(path, size)
        with Journal(path) as again:
            assert snapshot(Stage(again)) == states[max(each for each in states if each <= size)]


def test_watches_go_on_over_a_restart(tmp_path: Path) -> None:
    """What was written since the last compaction can be watched again; what is older is Expired."""
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


def test_offers_restored_definitions(tmp_path: Path) -> None:
    """A custom resource is there again with its definition."""
    with Journal(tmp_path / "journal") as journal:
        Stage(journal).create("widgets", a_widget(colour="red"))
    with Journal(tmp_path / "journal") as journal:
        assert Stage(journal).get("widgets", "w")["spec"]["colour"] == "red"


def test_compacts_a_grown_file(tmp_path: Path) -> None:
    """History does not pile up: the file stays within a few times of what is alive."""
    path = tmp_path / "journal"
    with Journal(path, grown_bytes=20_000) as journal:
        stage = Stage(journal)
        stage.create("widgets", a_widget())
        for number in range(200):
            stage.merge("widgets", "w", {"spec": {"size": number}})
        before = snapshot(stage)
        assert path.stat().st_size < 40_000
    with Journal(path) as journal:
        assert snapshot(Stage(journal)) == before


def test_refuses_a_second_user(tmp_path: Path) -> None:
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
def test_refuses_a_file_that_it_did_not_write(tmp_path: Path, content: bytes) -> None:
    """Damage in the middle is said, with the line, and nothing is thrown away."""
    (tmp_path / "journal").write_bytes(content)
    with Journal(tmp_path / "journal") as journal, pytest.raises(JournalError):
        list(journal.replay())
    assert (tmp_path / "journal").read_bytes() == content


def test_a_write_that_the_disk_does_not_take_is_not_acknowledged(tmp_path: Path) -> None:
    """A full disk refuses the write; the store and its watchers never saw it."""
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
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "journal")], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"


def test_a_killed_process_loses_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: every revision that was told is there."""
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
        told = [int(process.stdout.readline()) for _ in range(50)]
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.endswith("\n")]
    with Journal(path) as journal:
        stage = Stage(journal)
        assert stage.store.revision >= max(told)
        assert stage.get("widgets", "w")["metadata"]["resourceVersion"] == str(stage.store.revision)


def test_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    """Secrets lie in it."""
    with Journal(tmp_path / "journal") as journal:
        Stage(journal)
        assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600


def test_writes_each_record_as_a_line(tmp_path: Path) -> None:
    """A person can read it."""
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
