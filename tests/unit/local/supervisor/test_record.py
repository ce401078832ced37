"""The record: what outlives a supervisor."""

from pathlib import Path

import pytest

from flexinfer.local.supervisor import record
from localkube.process_identity import Identity


def test_a_record_of_another_boot_counts_for_nothing(tmp_path: Path) -> None:
    """Start times mean nothing after a reboot."""
    file = tmp_path / "processes.json"
    entry = record.Entry(name="one", identity=Identity(1, 1))
    file.write_bytes(record.encode(record.Record(boot="another", entries=(entry,))))
    assert record.read(file).entries == ()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"boot": 3}'])
def test_a_damaged_record_counts_for_nothing(tmp_path: Path, content: bytes) -> None:
    """The supervisor starts in spite of it."""
    file = tmp_path / "processes.json"
    file.write_bytes(content)
    assert record.read(file).entries == ()
