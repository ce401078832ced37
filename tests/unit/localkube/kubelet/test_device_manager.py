"""Devices: no Pod starts where another still runs."""

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


async def test_a_device_that_is_offered_several_times_is_given_to_so_many_pods() -> None:
    """Each gets the one that it names, else the least used; one Pod gets different devices as long as there are some."""
    devices = DeviceManager({GPU: ("GPU-a", "GPU-b")}, replicas=2)
    assert devices.capacity == {GPU: 4}
    assert await devices.allocate("first", {GPU: 1}, ["GPU-b"]) == {GPU: [1]}
    assert await devices.allocate("second", {GPU: 1}) == {GPU: [0]}
    assert await devices.allocate("both", {GPU: 2}) == {GPU: [0, 1]}
    assert devices.available({GPU: 1}) is None
    devices.release("first")
    assert devices.available({GPU: 1}) == {GPU: [1]}


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
    assert detected(tmp_path, tmp_path / "proc") == {GPU: ("0", "1")}


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


async def test_a_pod_gets_the_devices_that_it_names() -> None:
    """It was placed on them: on others it may not fit."""
    devices = DeviceManager({GPU: ("GPU-a", "GPU-b", "GPU-c")})
    assert await devices.allocate("first", {GPU: 1}, ["GPU-b"]) == {GPU: [1]}
    assert await devices.allocate("second", {GPU: 1}) == {GPU: [0]}
    waiting = asyncio.create_task(devices.allocate("third", {GPU: 1}, ["GPU-b"]))
    await asyncio.sleep(0)
    assert not waiting.done()
    devices.release("first")
    assert await waiting == {GPU: [1]}


@pytest.mark.parametrize("named", [["GPU-x"], ["GPU-a", "GPU-b"], [""]])
async def test_names_that_do_not_match_the_request_are_no_reason_to_wait(named: list[str]) -> None:
    """Another node's, or too many."""
    devices = DeviceManager({GPU: ("GPU-a", "GPU-b")})
    assert await devices.allocate("first", {GPU: 1}, named) == {GPU: [0]}


INFORMATION = """Model: \t\t NVIDIA GeForce RTX 3090
IRQ:   \t\t 152
GPU UUID: \t {uuid}
Bus Type: \t PCIe
Bus Location: \t 0000:01:00.0
Device Minor: \t {minor}
GPU Excluded:\t No
"""


@pytest.mark.parametrize(
    ("second", "ids"),
    [("GPU-22", ("GPU-22", "GPU-11")), ("GPU-????????-????", ("0", "1"))],
    ids=["known", "not opened yet"],
)
def test_gpus_of_nvidia_are_named_by_their_uuids(tmp_path: Path, second: str, ids: tuple[str, ...]) -> None:
    """In the order of their device files, which is not that of the PCI bus; by index while the driver knows no uuid."""
    for minor, (address, uuid) in enumerate((("0000:05:00.0", second), ("0000:01:00.0", "GPU-11"))):
        (tmp_path / f"nvidia{minor}").touch()
        folder = tmp_path / "proc" / "driver" / "nvidia" / "gpus" / address
        folder.mkdir(parents=True)
        (folder / "information").write_text(INFORMATION.format(uuid=uuid, minor=minor))
    assert detected(tmp_path, tmp_path / "proc") == {GPU: ids}


def test_hip_counts_the_devices_that_rocr_has_left() -> None:
    """From 0: the index of the machine would find none."""
    values = variables({"amd.com/gpu": ["2", "3"]}, {"amd.com/gpu": 4})
    assert (values["ROCR_VISIBLE_DEVICES"], values["HIP_VISIBLE_DEVICES"]) == ("2,3", "0,1")
