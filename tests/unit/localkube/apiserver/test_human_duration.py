"""Ages in tables, as in Kubernetes."""

from datetime import UTC, datetime

import pytest

from localkube.apiserver import human_duration

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-0.5, "0s"),
        (119, "119s"),
        (120, "2m"),
        (192, "3m12s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 1800, "3h30m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (55 * 3600, "2d7h"),
        (8 * 86400, "8d"),
        (2 * 365 * 86400, "2y"),
        (3 * 365 * 86400 + 86400, "3y1d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds: float, text: str) -> None:
    """The longer, the coarser."""
    assert human_duration.format_duration(seconds) == text


def test_an_absent_time_is_unknown_and_a_malformed_one_invalid() -> None:
    """Never an exception, which would fail the whole table."""
    assert [human_duration.since(text, NOW) for text in (None, "", "soon", "2026-11-24T11:59:00Z")] == [
        "<unknown>",
        "<unknown>",
        "<invalid>",
        "60s",
    ]
