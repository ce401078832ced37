"""GGUF headers: what they promise is held against the file, and nothing in them is believed."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.prefetcher.gguf import fault
from tests.unit.prefetcher.gguf_files import HEADER, a_gguf

STRING, ARRAY = 8, 9


def fault_of(folder: Path, content: bytes, name: str = "m.gguf") -> str:
    """Return what is wrong with a file of this content."""
    (folder / name).write_bytes(content)
    return fault(folder / name)


def with_value(kind: int, value: bytes) -> bytes:
    """Return a file whose header has one value."""
    return b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"k" + struct.pack("<I", kind) + value


@pytest.mark.parametrize("content", [HEADER, a_gguf(), a_gguf() + b"more", a_gguf(kind=99, data=0)])
def test_a_complete_file_has_no_fault(tmp_path: Path, content: bytes) -> None:
    """A type of tensor that is newer than this program counts for nothing."""
    assert fault_of(tmp_path, content) == ""


def test_a_file_that_was_cut_says_how_long_it_should_be(tmp_path: Path) -> None:
    """X17: by the last tensor of its header."""
    whole = a_gguf(elements=1024)
    cut = fault_of(tmp_path, whole[:-1])
    assert (
        cut
        == f"m.gguf is incomplete: {len(whole) - 1:,} of the {len(whole):,} bytes that its header promises"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"", "is not a GGUF file: it is empty", id="empty"),
        pytest.param(b"\x00\xffab", "is not a GGUF file: it begins with the bytes 00 ff 61 62", id="binary"),
        pytest.param(b"<html>", 'is not a GGUF file: it begins with "<htm"', id="an error page"),
        pytest.param(HEADER[:-1], "ends within its header", id="cut in the header"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 2**64 - 1, 0), "claims 18,446,744,073", id="tensors"),
        pytest.param(b"GGUF" + struct.pack("<IQQ", 3, 0, 2**63), "claims 9,223,372,036", id="values"),
        pytest.param(with_value(STRING, struct.pack("<Q", 2**62)), "goes past its end", id="text"),
        pytest.param(with_value(ARRAY, struct.pack("<IQ", 4, 2**62)), "goes past its end", id="array"),
        pytest.param(with_value(ARRAY, struct.pack("<IQ", STRING, 2**62)), "claims", id="texts"),
        pytest.param(with_value(ARRAY, struct.pack("<IQ", ARRAY, 1)), "type 9", id="nested arrays"),
        pytest.param(with_value(77, b""), "type 77", id="type"),
    ],
)
def test_a_header_that_lies_is_said(tmp_path: Path, content: bytes, words: str) -> None:
    """Counts and lengths of 2^64, and a header that ends too early (reliability X17)."""
    assert words in fault_of(tmp_path, content)


@pytest.mark.parametrize("name", ["m.gguf", "model.safetensors", "config.json"])
def test_a_git_lfs_pointer_is_named_whatever_it_stands_for(tmp_path: Path, name: str) -> None:
    """As a clone without git-lfs leaves them."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    assert fault_of(tmp_path, pointer, name).startswith(
        f"{name} is a git-lfs pointer of {len(pointer)} bytes"
    )


@given(st.binary(max_size=400))
def test_reading_is_total(tmp_path_factory: pytest.TempPathFactory, rest: bytes) -> None:
    """Any bytes end in an answer."""
    assert isinstance(fault_of(tmp_path_factory.mktemp("f"), HEADER[:8] + rest), str)
