"""The clock that deadlines are counted by."""

import time

import pytest

from flexinfer.runtime import clock


def test_it_counts_a_suspend_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader that slept for longer than its Lease lasts must not act when it resumes."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("only Linux has a clock that counts a suspend")
    readings = {time.CLOCK_BOOTTIME: 700.0, time.CLOCK_MONOTONIC: 100.0}
    monkeypatch.setattr(time, "clock_gettime", readings.__getitem__)
    assert clock.monotonic() == 700.0


def test_it_never_goes_back() -> None:
    """Two readings are in their order."""
    first = clock.monotonic()
    assert clock.monotonic() >= first
