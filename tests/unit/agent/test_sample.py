"""Samples: what they hold, and which changes are significant."""

import msgspec
import pytest

from flexinfer.agent.sample import DeviceSample, is_significant, sample
from flexinfer.agent.vendors import ProbeResult, Vendor, all_vendors
from flexinfer.events.nodes import Device, DeviceProcess

CARD = Device(uuid="GPU-1", total_mb=24576, free_mb=20000, used_mb=4000)


def a_vendor(*results: ProbeResult) -> Vendor:
    """Return a vendor with these results, one a probe."""
    remaining = iter(results)
    return Vendor(name="nvidia", probe=lambda: next(remaining))


def test_every_file_of_a_vendor_is_found() -> None:
    """A vendor is added by adding a file."""
    assert [vendor.name for vendor in all_vendors()] == ["amd", "nvidia"]


def test_no_device_is_a_sample_with_a_reason() -> None:
    """Not an error."""
    current = sample([a_vendor(ProbeResult(message="NVML: no library"))], DeviceSample())
    assert current == DeviceSample(message="NVML: no library")


def test_devices_that_can_no_longer_be_probed_are_unhealthy_not_absent() -> None:
    """They must not be taken for available."""
    vendor = a_vendor(ProbeResult(devices=(CARD,)), ProbeResult(message="NVML: Unknown Error", broken=True))
    current = sample([vendor], sample([vendor], DeviceSample()))
    assert current.devices == (msgspec.structs.replace(CARD, healthy=False),)


def test_a_device_that_one_probe_lacks_hides_no_other() -> None:
    """It is unhealthy; one that a probe without a failure lacks is gone."""
    other = msgspec.structs.replace(CARD, uuid="GPU-2")
    vendor = a_vendor(
        ProbeResult(devices=(CARD, other)),
        ProbeResult(devices=(CARD,), message="NVML: device 1: GPU is lost", broken=True),
        ProbeResult(devices=(CARD,)),
    )
    both = sample([vendor], DeviceSample())
    lost = sample([vendor], both)
    assert lost.devices == (CARD, msgspec.structs.replace(other, healthy=False))
    assert is_significant(both, lost)
    gone = sample([vendor], lost)
    assert gone.devices == (CARD,)
    assert is_significant(lost, gone)


@pytest.mark.parametrize(
    ("now", "significant"),
    [
        pytest.param(CARD, False, id="the same"),
        pytest.param(msgspec.structs.replace(CARD, free_mb=20001), False, id="a megabyte"),
        pytest.param(msgspec.structs.replace(CARD, free_mb=19000), True, id="memory"),
        pytest.param(msgspec.structs.replace(CARD, healthy=False), True, id="health"),
        pytest.param(msgspec.structs.replace(CARD, utilisation=90), True, id="load"),
        pytest.param(msgspec.structs.replace(CARD, power_watts=300), True, id="power"),
        pytest.param(msgspec.structs.replace(CARD, processes=(DeviceProcess(pid=7),)), True, id="process"),
        pytest.param(msgspec.structs.replace(CARD, processes_known=False), True, id="processes unknown"),
        pytest.param(msgspec.structs.replace(CARD, uuid="GPU-2"), True, id="another device"),
    ],
)
def test_only_large_changes_are_significant(now: Device, significant: bool) -> None:  # noqa: FBT001
    """The others are published with the heartbeat."""
    assert is_significant(DeviceSample(devices=(CARD,)), DeviceSample(devices=(now,))) is significant
