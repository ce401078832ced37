"""What is believed of a device, and what is not."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.agent.plausible import PROCESSES_LISTED, checked
from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import ProbeResult, Vendor
from flexinfer.events.nodes import Device, DeviceProcess

CARD = Device(uuid="GPU-1", total_mb=24576, free_mb=20000, used_mb=4000)


def changed(**changes: Any) -> Device:
    """Return the card with other figures."""
    return msgspec.structs.replace(CARD, **changes)


def test_what_can_be_true_is_believed() -> None:
    """A part of the memory may be neither free nor used: the driver's own."""
    assert checked(CARD, None) == (CARD, "")
    assert checked(CARD, changed(free_mb=0)) == (CARD, "")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"used_mb": 30000}, "30000 MiB in use of 24576 MiB"),
        ({"used_mb": -1}, "-1 MiB in use"),
        ({"free_mb": -1}, "-1 MiB free"),
        ({"free_mb": 24577, "used_mb": 0}, "24577 MiB free"),
        ({"free_mb": 24000}, "24000 MiB free beside 4000 MiB in use"),
        ({"total_mb": 0}, "0 MiB of memory in total"),
        ({"total_mb": 2**44, "used_mb": 2**45}, "in use of"),
    ],
)
def test_memory_that_cannot_be_true_makes_a_device_unhealthy(changes: dict[str, int], words: str) -> None:
    """Nothing is known of what is free on it; the message has the numbers."""
    device, message = checked(changed(**changes), None)
    assert (device.healthy, device.free_mb, device.used_mb) == (False, 0, 0)
    assert words in message
    assert message.startswith("device GPU-1: ")


def test_a_total_that_changes_is_believed_when_it_is_read_again() -> None:
    """One of the two readings was wrong, and it is not known which."""
    odd = ProbeResult(devices=(changed(total_mb=49152),))
    results = iter([ProbeResult(devices=(CARD,)), odd, odd])
    vendor = Vendor(name="nvidia", probe=lambda: next(results))
    first = sample([vendor], DeviceSample())
    second = sample([vendor], first)
    third = sample([vendor], second)
    assert [s.devices[0].healthy for s in (first, second, third)] == [True, False, True]
    assert "49152 MiB of memory in total, after 24576 MiB" in second.message


def test_figures_that_only_inform_are_left_out_if_they_cannot_be_true() -> None:
    """A sensor that says 65535 makes no device unhealthy."""
    device, message = checked(changed(utilisation=400, power_watts=2**31, temperature=-273), None)
    assert message == ""
    assert (device.healthy, device.utilisation, device.power_watts, device.temperature) == (True, 100, 0, 0)


@pytest.mark.parametrize("used", [-1, 30000])
def test_a_process_cannot_hold_more_than_the_device(used: int) -> None:
    """The list then proves nothing."""
    device, _ = checked(changed(processes=(DeviceProcess(pid=7, used_mb=used),)), None)
    assert (device.processes_known, device.processes) == (False, (DeviceProcess(pid=7),))


def test_only_the_largest_of_very_many_processes_are_listed() -> None:
    """An event has room for so many, and any user can start thousands that draw."""
    processes = tuple(DeviceProcess(pid=pid, used_mb=pid % 1000) for pid in range(1, 5000))
    device, _ = checked(changed(processes=processes), None)
    assert len(device.processes) == PROCESSES_LISTED
    assert min(process.used_mb for process in device.processes) >= 974
    assert [p.pid for p in device.processes] == sorted(p.pid for p in device.processes)
    assert not device.processes_known


figures = st.integers(-(2**63), 2**64)


@given(figures, figures, figures, figures, st.none() | figures, st.booleans())
def test_no_figures_make_more_free_memory_than_there_is(
    total: int,
    free: int,
    used: int,
    process: int,
    before: int | None,
    healthy: bool,  # noqa: FBT001
) -> None:
    """Whatever a driver says."""
    previous = None if before is None else changed(total_mb=before)
    device = changed(
        healthy=healthy,
        total_mb=total,
        free_mb=free,
        used_mb=used,
        processes=(DeviceProcess(pid=1, used_mb=process),),
    )
    result, message = checked(device, previous)
    assert 0 <= result.free_mb <= result.free_mb + result.used_mb <= max(0, result.total_mb)
    assert result.healthy == (healthy and message == "")
    assert all(0 <= p.used_mb <= max(0, result.total_mb) for p in result.processes)
