"""Mounts: container paths become folders."""

from pathlib import Path

import pytest

from localkube.kubelet.volume_mounts import Mount, Mounts, UnsafePathError, below

MOUNTS = Mounts([Mount("/models", "/state/models"), Mount("/models/cache/", "/state/cache")])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("/models", "/state/models", id="the mount itself"),
        pytest.param("/models/a.gguf", "/state/models/a.gguf", id="below it"),
        pytest.param("/models/cache/b", "/state/cache/b", id="the longest mount wins"),
        pytest.param("--model=/models/a.gguf", "--model=/state/models/a.gguf", id="after a flag's ="),
        pytest.param("/modelsx/a", "/modelsx/a", id="a longer name is another path"),
        pytest.param("text=/models/a", "text=/models/a", id="no flag"),
        pytest.param("/models/../etc/passwd", "/models/../etc/passwd", id="a way out is not below it"),
        pytest.param("say /models", "say /models", id="prose"),
    ],
)
def test_a_value_below_a_mount_is_rewritten_and_others_are_left_alone(value: str, expected: str) -> None:
    """The first words of a value, or of what follows a flag."""
    assert MOUNTS.translate(value) == expected


def test_paths_in_quotes_of_a_file_are_rewritten_and_nothing_else_of_it() -> None:
    """As JSON has them."""
    text = '{"file": "/models/a.json", "of": "/dev/null", "say": "see /models", "two\\"": "/models/cache"}'
    assert MOUNTS.within(text) == (
        '{"file": "/state/models/a.json", "of": "/dev/null", "say": "see /models", "two\\"": "/state/cache"}'
    )


def test_our_own_programs_are_told_all_mounts() -> None:
    """As JSON."""
    assert MOUNTS.variable() == '{"/models":"/state/models","/models/cache":"/state/cache"}'


@pytest.mark.parametrize("sub_path", ["../x", "/etc", "a/../../x", "link/x"])
def test_a_sub_path_cannot_leave_its_volume(tmp_path: Path, sub_path: str) -> None:
    """By `..`, by a root, by a link."""
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume" / "link").symlink_to("/etc")
    with pytest.raises(UnsafePathError):
        below(tmp_path / "volume", sub_path)


def test_a_sub_path_below_its_volume_is_a_plain_join(tmp_path: Path) -> None:
    """Nothing more."""
    assert below(tmp_path, "a/b") == tmp_path / "a" / "b"
