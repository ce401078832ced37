"""Termination: a container's last words."""

from pathlib import Path

import pytest

from localkube.kubelet.termination_message import message

POLICY = {"terminationMessagePolicy": "FallbackToLogsOnError"}


@pytest.mark.parametrize(
    ("container", "failed", "told"),
    [
        pytest.param({}, True, "", id="the log is not asked"),
        pytest.param(POLICY, True, "one\ntwo", id="the end of the log after a failure"),
        pytest.param(POLICY, False, "two", id="its last line after a success"),
    ],
)
def test_without_a_message_file_the_log_speaks_where_it_may(
    tmp_path: Path,
    container: dict[str, str],
    failed: bool,  # noqa: FBT001
    told: str,
) -> None:
    """By the container's policy."""
    (tmp_path / "log").write_text("one\ntwo\n")
    assert message(container, tmp_path, tmp_path / "log", failed=failed) == told


def test_a_message_file_wins(tmp_path: Path) -> None:
    """It was written for that."""
    (tmp_path / "log").write_text("one\n")
    (tmp_path / "termination").write_text("the cause")
    assert message(POLICY, tmp_path, tmp_path / "log", failed=True) == "the cause"
