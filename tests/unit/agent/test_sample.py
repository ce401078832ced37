"""Samples: what one look says, and when it is news."""

import msgspec
import pytest

from flexinfer.agent.sample import Sight, is_news, look
from flexinfer.agent.vendors import Found, Vendor, all_vendors
from flexinfer.events.nodes import Device, DeviceProcess

CARD = Device(uuid="GPU-1", total_mb=24576, free_mb=20000, used_mb=4000)


def a_vendor(*answers: Found) -> Vendor:
    """Return a vendor that gives these answers, one a look."""
    given = iter(answers)
    return Vendor(name="nvidia", probe=lambda: next(given))


def test_every_file_of_a_vendor_is_found() -> None:
    """Adding one is adding a file."""
    assert [vendor.name for vendor in all_vendors()] == ["nvidia"]


def test_nothing_found_is_a_fact_with_a_reason() -> None:
    """Not an error."""
    sight = look([a_vendor(Found(message="NVML: no library"))], Sight())
    assert sight == Sight(message="NVML: no library")


def test_devices_that_cannot_be_asked_any_more_are_unhealthy_not_absent() -> None:
    """Nobody may conclude that they are free."""
    vendor = a_vendor(Found(devices=(CARD,)), Found(message="NVML: Unknown Error", broken=True))
    sight = look([vendor], look([vendor], Sight()))
    assert sight.devices == (msgspec.structs.replace(CARD, healthy=False),)


@pytest.mark.parametrize(
    ("now", "news"),
    [
        pytest.param(CARD, False, id="the same"),
        pytest.param(msgspec.structs.replace(CARD, free_mb=20001), False, id="a megabyte"),
        pytest.param(msgspec.structs.replace(CARD, free_mb=19000), True, id="memory"),
        pytest.param(msgspec.structs.replace(CARD, healthy=False), True, id="health"),
        pytest.param(msgspec.structs.replace(CARD, utilisation=90), True, id="load"),
        pytest.param(msgspec.structs.replace(CARD, power_watts=300), True, id="power"),
        pytest.param(msgspec.structs.replace(CARD, processes=(DeviceProcess(pid=7),)), True, id="process"),
        pytest.param(msgspec.structs.replace(CARD, uuid="GPU-2"), True, id="another device"),
    ],
)
def test_only_what_matters_is_news(now: Device, news: bool) -> None:  # noqa: FBT001
    """The rest comes with the heartbeat."""
    assert is_news(Sight(devices=(CARD,)), Sight(devices=(now,))) is news
