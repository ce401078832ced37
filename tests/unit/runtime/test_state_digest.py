"""What a watermark is compared with."""

from flexinfer.runtime.nats.state_digest import digest


def test_digests_differ_by_subject_and_by_sequence() -> None:
    """The watermark holds their sums."""
    assert len({digest("a", 1), digest("a", 2), digest("b", 1)}) == 3
