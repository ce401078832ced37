"""Times of a status as numbers, as the standard library reads and writes them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.api.moments import moment, stamp


@given(st.integers(0, 253_402_300_799))
def test_a_time_is_read_and_written_as_the_standard_library_does(at: int) -> None:
    """Both ways, to the end of the year 9999."""
    text = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (moment(text), stamp(at)) == (at, text)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-02-30T00:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T20:00:00+01:00"]
)
def test_what_is_no_time_of_a_status_is_none(text: str) -> None:
    """Also a day that there is not."""
    assert moment(text) is None
