"""Devices: nobody starts where somebody still runs."""

import asyncio
from pathlib import Path

import pytest

from localkube.kubelet.device_manager import DeviceManager, detected, numbered, parsed, requested, variables

GPU = "nvidia.com/gpu"


async def test_a_pod_waits_until_the_former_holder_is_gone() -> None:
    """Deleted is not gone."""
    devices = DeviceManager({GPU: numbered(1)})
    assert await devices.allocate("former", {GPU: 1}) == {GPU: [0]}
    waiting = asyncio.create_task(devices.allocate("next", {GPU: 1}))
    await asyncio.sleep(0)
    assert not waiting.done()
    devices.release("former")
    assert await waiting == {GPU: [0]}


async def test_devices_of_adopted_pods_are_taken() -> None:
    """A new node process gives only what is left."""
    devices = DeviceManager({GPU: numbered(2)})
    devices.restore("former", {GPU: [0]})
    assert await devices.allocate("next", {GPU: 1}) == {GPU: [1]}
    assert devices.holders({GPU: 1}) == ["former", "next"]


def test_a_pod_asks_by_its_limits() -> None:
    """Extended resources only."""
    resources = {"limits": {GPU: "2", "cpu": "1"}}
    assert requested({"spec": {"containers": [{"resources": resources}]}}, {GPU: 4}) == {GPU: 2}


def test_a_process_is_shown_its_devices_and_no_others() -> None:
    """A Pod without devices sees none."""
    assert variables({GPU: ["1", "3"]}, {GPU: 4})["CUDA_VISIBLE_DEVICES"] == "1,3"
    assert variables({}, {GPU: 4})["CUDA_VISIBLE_DEVICES"] == ""


def test_gpus_are_counted_by_their_device_files(tmp_path: Path) -> None:
    """`nvidiactl` is no GPU."""
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert detected(tmp_path) == {GPU: ("0", "1")}


def test_devices_are_written_as_a_number_or_by_their_ids() -> None:
    """As `--resource` takes them."""
    assert parsed([f"{GPU}=2", "amd.com/gpu=GPU-a,GPU-b"]) == {
        GPU: ("0", "1"),
        "amd.com/gpu": ("GPU-a", "GPU-b"),
    }


@pytest.mark.parametrize("text", ["GPU-a,", "GPU-a,GPU-a", ""])
def test_an_id_that_is_empty_or_twice_there_is_refused(text: str) -> None:
    """Two devices of one name could not be told apart."""
    with pytest.raises(ValueError, match="neither a number of devices nor a list of different ids"):
        parsed([f"{GPU}={text}"])


async def test_a_pod_is_told_the_ids_of_its_devices() -> None:
    """Not their indices, where they have ids of their own."""
    devices = DeviceManager({GPU: ("GPU-a", "GPU-b")})
    devices.restore("former", {GPU: [0]})
    held = devices.ids(await devices.allocate("next", {GPU: 1}))
    assert held == {GPU: ["GPU-b"]}
    assert variables(held, devices.capacity)["NVIDIA_VISIBLE_DEVICES"] == "GPU-b"


def test_a_device_that_is_offered_no_more_keeps_its_index() -> None:
    """Its Pod may run still."""
    assert DeviceManager({GPU: ("GPU-a",)}).ids({GPU: [0, 1]}) == {GPU: ["GPU-a", "1"]}
