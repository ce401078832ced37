"""The hint of `flexinfer up` on a process that is not ready."""

from pathlib import Path

import pytest

from flexinfer.cli.log_hint import LogHint


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return the log of an earlier run."""
    path = tmp_path / "proxy.log"
    path.write_text("the end of the run before\n")
    return path


def append(log: Path, text: str) -> None:
    """Write to a log as its process does."""
    with log.open("a") as file:
        file.write(text)


def test_what_the_run_before_has_written_is_no_hint(log: Path) -> None:
    """It says nothing of why this one is not ready; nor is a log that has nothing."""
    assert str(LogHint(log)) == ""
    assert str(LogHint(log.with_name("missing.log"))) == ""


def test_the_last_line_since_the_start_is_the_hint(log: Path) -> None:
    """As text, or the message of a line of JSON."""
    hint = LogHint(log)
    append(log, "Traceback\nOSError: [Errno 98] address already in use\n\n")
    assert str(hint) == f"; {log} ends with: OSError: [Errno 98] address already in use"
    append(log, '{"time": "2026", "level": "info", "message": "NATS is unavailable: retries in 2 s"}\n')
    assert str(hint) == f"; {log} ends with: NATS is unavailable: retries in 2 s"
    append(log, '{"other": 1}\n')
    assert str(hint) == f'; {log} ends with: {{"other": 1}}'


def test_a_log_that_was_rotated_since_the_start_is_read_from_its_beginning(log: Path) -> None:
    """It is shorter then than it was."""
    hint = LogHint(log)
    log.write_text("new\n")
    assert str(hint) == f"; {log} ends with: new"


def test_a_long_log_is_read_at_its_end(log: Path) -> None:
    """A component may write much before it is ready."""
    hint = LogHint(log)
    append(log, "x" * 300_000 + "\nthe last\n")
    assert str(hint) == f"; {log} ends with: the last"
