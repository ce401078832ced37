"""The readers over a stub of NVIDIA's library: the real bindings, in a process of their own."""

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flexinfer.events.nodes import Device
from tests import nvml
from tests.machines import RX_7900_XTX, Sys, a_process
from tests.nvml import GTX_980_TI, H100, RTX_3090, Card, Machine, Process, Step
from tests.patience import patient

SCRIPT = """
import msgspec, sys
from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import all_vendors
current, samples = DeviceSample(), []
for _ in range(int(sys.argv[1])):
    current = sample([vendor for vendor in all_vendors() if vendor.name == "nvidia"], current)
    samples.append(current)
sys.stdout.buffer.write(msgspec.json.encode(samples))
"""
AMD_SCRIPT = """
import msgspec, os, sys
from pathlib import Path
from flexinfer.agent.processes import ProcessTable
from flexinfer.agent.vendors.amd import Tree
root = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65532)  # after the imports: the interpreter may be root's alone
sys.stdout.buffer.write(msgspec.json.encode(Tree(ProcessTable(root / "proc"), root / "sys").probe().devices))
"""


class Sample(msgspec.Struct, frozen=True):
    """One sample as the process wrote it."""

    devices: tuple[Device, ...]
    message: str


def samples(folder: Path, *steps: Step, old_driver: bool = False) -> list[Sample]:
    """Return the samples of a process that meets these steps, one each."""
    return run(len(steps), Machine(folder).play(steps, old_driver=old_driver))


def run(number: int, environment: dict[str, str]) -> list[Sample]:
    """Return the samples of a process."""
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(number)],
        env=environment,
        capture_output=True,
        check=True,
        timeout=patient(60),
    )
    return msgspec.json.decode(process.stdout, type=list[Sample])


def changed(card: Card, **changes: Any) -> Card:
    """Return a card with other answers."""
    return msgspec.structs.replace(card, **changes)


def health(taken: Sequence[Sample], *uuids: str) -> list[list[bool | None]]:
    """Return for each sample which of the devices are healthy; None for one that is not in it."""
    by_uuid = [{device.uuid: device.healthy for device in one.devices} for one in taken]
    return [[devices.get(uuid) for uuid in uuids] for devices in by_uuid]


def described(device: Device) -> tuple[object, ...]:
    """Return what the cards differ in."""
    return (
        *(device.name, device.architecture, device.total_mb, device.free_mb, device.used_mb),
        *(device.pci, device.temperature, device.power_watts, device.mig, device.healthy),
    )


@pytest.mark.integration
@pytest.mark.parametrize(
    ("card", "expected"),
    [
        pytest.param(
            GTX_980_TI,
            ("NVIDIA GeForce GTX 980 Ti", "sm_52", 6144, 6080, 3, "0000:01:00.0", 44, 16, False, True),
            id="GTX 980 Ti",
        ),
        pytest.param(
            RTX_3090,
            ("NVIDIA GeForce RTX 3090", "sm_86", 24576, 24264, 1, "0000:0a:00.0", 38, 21, False, True),
            id="RTX 3090",
        ),
        pytest.param(
            H100,
            ("NVIDIA H100 80GB HBM3", "sm_90", 81559, 80982, 0, "0000:c3:00.0", 31, 69, False, True),
            id="H100",
        ),
        pytest.param(
            changed(H100, mig=1),
            ("NVIDIA H100 80GB HBM3", "sm_90", 81559, 80982, 0, "0000:c3:00.0", 31, 69, True, True),
            id="H100, divided",
        ),
    ],
)
def test_each_card_is_described_as_its_driver_does(
    tmp_path: Path, card: Card, expected: tuple[object, ...]
) -> None:
    """The driver's own share is neither free nor used; a device that is divided tells no processes."""
    [first] = samples(tmp_path, Step((card,)))
    assert [described(device) for device in first.devices] == [expected]
    assert first.devices[0].processes_known is not first.devices[0].mig
    assert first.message == ""


@pytest.mark.integration
def test_an_old_driver_without_half_of_the_calls_is_enough(tmp_path: Path) -> None:
    """The first version of the memory call, and neither utilisation, sensors, MIG nor events."""
    [first] = samples(tmp_path, Step((GTX_980_TI, RTX_3090), xids=((1, 79),)), old_driver=True)
    assert [(d.total_mb, d.free_mb, d.temperature, d.healthy, d.processes_known) for d in first.devices] == [
        (6144, 6080, 0, True, True),
        (24576, 24264, 0, True, True),
    ]


@pytest.mark.integration
def test_a_card_that_supports_half_of_the_calls_is_enough(tmp_path: Path) -> None:
    """Each that is not supported is left out."""
    [first] = samples(
        tmp_path, Step((changed(RTX_3090, busy=-1, celsius=-1, milliwatts=-1, capability=(-1, -1)),))
    )
    [device] = first.devices
    assert (device.utilisation, device.temperature, device.power_watts, device.architecture) == (0, 0, 0, "")
    assert device.healthy


@pytest.mark.integration
def test_a_card_that_does_not_report_its_memory_is_not_used(tmp_path: Path) -> None:
    """As boards whose memory is the node's own."""
    [first] = samples(tmp_path, Step((changed(RTX_3090, total_mb=-1),)))
    assert [(d.healthy, d.free_mb) for d in first.devices] == [(False, 0)]
    assert "does not report its memory" in first.message


@pytest.mark.integration
def test_after_an_error_devices_are_unhealthy_and_the_library_is_opened_again(tmp_path: Path) -> None:
    """A reloaded driver answers "Unknown Error" until then (reliability G9)."""
    cards = (GTX_980_TI, RTX_3090)
    failing = Step(cards, count=nvml.UNKNOWN_ERROR)
    taken = samples(tmp_path, Step(cards), failing, Step(cards))
    assert health(taken, GTX_980_TI.uuid, RTX_3090.uuid) == [[True, True], [False, False], [True, True]]
    assert "NVML: Unknown Error" in taken[1].message


@pytest.mark.integration
@pytest.mark.parametrize("failure", [{"handle": nvml.LOST}, {"memory": nvml.LOST}])
def test_a_device_that_fell_off_the_bus_is_unhealthy_and_hides_no_other(
    tmp_path: Path, failure: dict[str, int]
) -> None:
    """What it last held is not free, whichever call notices first (reliability G11)."""
    lost = Step((GTX_980_TI, changed(RTX_3090, **failure)))
    taken = samples(tmp_path, Step((GTX_980_TI, RTX_3090)), lost, lost)
    assert health(taken, GTX_980_TI.uuid, RTX_3090.uuid) == [[True, True], [True, False], [True, False]]
    assert taken[1].message.startswith("NVML: device 1: GPU is lost; reset it")


@pytest.mark.integration
def test_a_device_that_is_taken_out_is_gone(tmp_path: Path) -> None:
    """The driver answers, and does not list it."""
    taken = samples(tmp_path, Step((GTX_980_TI, RTX_3090)), Step((GTX_980_TI,)))
    assert health(taken, GTX_980_TI.uuid, RTX_3090.uuid) == [[True, True], [True, None]]


@pytest.mark.integration
def test_devices_are_known_by_uuid_whatever_their_order(tmp_path: Path) -> None:
    """After a reboot the slots may have changed places (reliability G4)."""
    one, two = samples(tmp_path, Step((GTX_980_TI, RTX_3090)), Step((RTX_3090, GTX_980_TI)))
    assert one.devices == two.devices


@pytest.mark.integration
def test_after_an_xid_that_breaks_the_device_it_is_out_of_use_until_it_was_seen_gone(tmp_path: Path) -> None:
    """A reset takes the device away for a moment; the other devices continue (reliability G11)."""
    cards = (H100, RTX_3090)
    gone = Step((changed(H100, handle=nvml.RESET_REQUIRED), RTX_3090))
    taken = samples(tmp_path, Step(cards), Step(cards, xids=((0, 79),)), Step(cards), gone, Step(cards))
    assert health(taken, H100.uuid, RTX_3090.uuid) == [
        *([True, True], [False, True], [False, True], [False, True], [True, True])
    ]
    assert "XID 79 (fallen off the bus); reset it" in taken[1].message
    by_uuid = {device.uuid: device for device in taken[4].devices}
    assert (by_uuid[H100.uuid].errors, by_uuid[RTX_3090.uuid].errors) == (("XID 79",), ())


@pytest.mark.integration
@pytest.mark.parametrize(
    ("card", "other"),
    [
        pytest.param(GTX_980_TI, H100, id="GTX 980 Ti"),
        pytest.param(RTX_3090, GTX_980_TI, id="RTX 3090"),
        pytest.param(H100, RTX_3090, id="H100"),
        pytest.param(changed(H100, mig=1), GTX_980_TI, id="H100, divided"),
    ],
)
def test_whatever_happens_to_a_card_of_any_kind_it_is_known_again_by_its_uuid(
    tmp_path: Path, card: Card, other: Card
) -> None:
    """Other slots after a reboot, an error of the whole library, unplugged, an XID 79, off the bus (reliability G4, G9, G11); the card beside it is only away with the library."""
    cards = (card, other)
    broken = not card.events  # one that supports no events is lost without a word
    expected = [
        ("as it is", Step(cards), (True, True)),
        ("other slots", Step((other, card)), (True, True)),
        ("unknown error", Step(cards, count=nvml.UNKNOWN_ERROR), (False, False)),
        ("library opened again", Step(cards), (True, True)),
        ("unplugged", Step((other,)), (None, True)),
        ("plugged in", Step(cards), (True, True)),
        ("fell off the bus, it says", Step(cards, xids=((0, 79),)), (not broken, True)),
        ("still listed", Step(cards), (not broken, True)),
        ("off the bus", Step((changed(card, handle=nvml.LOST), other)), (False, True)),
        ("after its reset", Step(cards), (True, True)),
    ]
    taken = samples(tmp_path, *(step for _, step, _ in expected))
    states = [tuple(one) for one in health(taken, card.uuid, other.uuid)]
    assert list(zip([name for name, _, _ in expected], states, strict=True)) == [
        (name, state) for name, _, state in expected
    ]
    assert taken[0].devices == taken[1].devices
    errors = [device.errors for device in taken[-1].devices if device.uuid == card.uuid]
    assert errors == [("XID 79",) if broken else ()]


@pytest.mark.integration
def test_an_xid_of_a_device_that_no_longer_answers_concerns_no_other(tmp_path: Path) -> None:
    """It falls off the bus and reports it at once."""
    cards = (H100, RTX_3090)
    lost = Step((changed(H100, handle=nvml.LOST), RTX_3090), xids=((0, 79),))
    taken = samples(tmp_path, Step(cards), lost, Step(cards))
    assert health(taken, H100.uuid, RTX_3090.uuid) == [[True, True], [False, True], [True, True]]
    assert [[d.errors for d in one.devices if d.uuid == RTX_3090.uuid] for one in taken] == [[()]] * 3


@pytest.mark.integration
@pytest.mark.parametrize("number", [13, 31, 43, 45])
def test_an_xid_of_a_process_leaves_the_device_in_use(tmp_path: Path, number: int) -> None:
    """It is shown, and concerns the Pod alone (reliability G10)."""
    _, second = samples(tmp_path, Step((H100,)), Step((H100,), xids=((0, number),)))
    assert [(d.healthy, d.errors) for d in second.devices] == [(True, (f"XID {number}",))]


@pytest.mark.integration
@pytest.mark.parametrize("number", [48, 74, 95])
def test_an_xid_of_no_device_concerns_all(tmp_path: Path, number: int) -> None:
    """It is not known which one computes wrongly (reliability G11)."""
    cards = (H100, RTX_3090)
    taken = samples(tmp_path, Step(cards), Step(cards, xids=((-1, number),)))
    assert health(taken, H100.uuid, RTX_3090.uuid)[1] == [False, False]


@pytest.mark.integration
def test_a_driver_that_is_loaded_again_has_reset_its_devices(tmp_path: Path) -> None:
    """And a device keeps the latest errors alone."""
    xids = Step((H100,), xids=tuple((0, number) for number in (*range(1, 10), 95)))
    unloaded = Step((H100,), count=nvml.UNKNOWN_ERROR), Step(init=nvml.DRIVER_NOT_LOADED)
    taken = samples(tmp_path, xids, *unloaded, Step((H100,)))
    assert health(taken, H100.uuid) == [[False], [False], [None], [True]]
    assert taken[3].devices[0].errors == (*(f"XID {number}" for number in range(3, 10)), "XID 95")


@pytest.mark.integration
def test_memory_that_cannot_be_true_makes_a_device_unhealthy_until_it_can(tmp_path: Path) -> None:
    """Whatever the library answers (reliability G4)."""
    taken = samples(tmp_path, Step((RTX_3090,)), Step((changed(RTX_3090, used_mb=30000),)), Step((RTX_3090,)))
    assert health(taken, RTX_3090.uuid) == [[True], [False], [True]]
    assert "30000 MiB in use of 24576 MiB" in taken[1].message


@pytest.mark.integration
@pytest.mark.parametrize("seed", [1, 2])
def test_no_figures_of_a_library_make_memory_free_that_is_not_there(tmp_path: Path, seed: int) -> None:
    """Sixteen probes of any numbers; what is healthy is plausible, and the library's order means nothing (reliability G4)."""
    draw = random.Random(seed)
    sizes = (0, 1, 3, 6144, 24576, 2**20, 2**43)

    def garbled(card: Card) -> Card:
        total, reserved, used, held = (draw.choice(sizes) for _ in range(4))
        processes = (Process(4194999, held), Process(4194998, draw.choice(sizes), "g"))
        return changed(card, total_mb=total, reserved_mb=reserved, used_mb=used, processes=processes)

    steps = [Step(tuple(garbled(card) for card in draw.sample((GTX_980_TI, RTX_3090), 2))) for _ in range(16)]
    for one in samples(tmp_path, *steps):
        assert [device.uuid for device in one.devices] == sorted((GTX_980_TI.uuid, RTX_3090.uuid))
        for device in one.devices:
            assert 0 <= device.free_mb <= device.free_mb + device.used_mb <= device.total_mb
            assert all(0 <= process.used_mb <= device.total_mb for process in device.processes)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "is_complete", "processes"),
    [
        pytest.param({"processes": (Process(4194999, 3072),)}, True, [(4194999, 3072)], id="listed"),
        pytest.param(
            {"processes": (Process(4194999, 1024, later_mb=2048),)}, True, [(4194999, 1024)], id="growing"
        ),
        pytest.param({"processes": (Process(4194999, -1),)}, False, [(4194999, 0)], id="without memory"),
        pytest.param({"listing": nvml.NO_PERMISSION}, False, [], id="forbidden"),
        pytest.param(
            {"processes": (Process(4194998, 500, "g"), Process(4194999, 3072))},
            True,
            [(4194998, 500), (4194999, 3072)],
            id="a game beside an engine",
        ),
        pytest.param(
            {"processes": (Process(4194999, 700), Process(4194999, 700, "g"))},
            True,
            [(4194999, 700)],
            id="one that computes and draws",
        ),
    ],
)
def test_a_device_says_which_processes_hold_memory_and_whether_these_are_all(
    tmp_path: Path,
    changes: dict[str, Any],
    is_complete: bool,  # noqa: FBT001
    processes: list[tuple[int, int]],
) -> None:
    """A list that was refused, or that does not say how much each holds, proves nothing by what it lacks."""
    [first] = samples(tmp_path, Step((changed(RTX_3090, **changes),)))
    [device] = first.devices
    assert device.processes_known is is_complete
    assert [(process.pid, process.used_mb) for process in device.processes] == processes


@pytest.mark.integration
def test_a_process_of_this_machine_has_a_name_and_a_start(tmp_path: Path) -> None:
    """As the agent sees it with the pids of its node."""
    [first] = samples(tmp_path, Step((changed(RTX_3090, processes=(Process(os.getpid(), 100),)),)))
    [process] = first.devices[0].processes
    assert process.name == Path("/proc/self/comm").read_text().strip()
    assert process.started > 0


@pytest.mark.integration
def test_a_library_without_a_driver_is_no_error(tmp_path: Path) -> None:
    """As in a container without a device."""
    [first] = samples(tmp_path, Step(init=nvml.DRIVER_NOT_LOADED))
    assert (first.devices, "Driver Not Loaded" in first.message) == ((), True)


@pytest.mark.integration
def test_no_library_is_no_error() -> None:
    """The message of a node without NVIDIA devices names it."""
    if any(Path("/dev").glob("nvidia*")):
        pytest.skip("this machine has one")
    [first] = run(1, dict(os.environ))
    assert (first.devices, "NVML" in first.message) == ((), True)


@pytest.mark.integration
def test_the_command_line_shows_what_the_readers_see(tmp_path: Path) -> None:
    """Without an instance."""
    environment = Machine(tmp_path).play([Step((changed(RTX_3090, processes=(Process(os.getpid(), 100),)),))])
    for command in (["flexinfer.cli", "gpus", "--here"], ["flexinfer.agent.look"]):
        shown = subprocess.run(
            [sys.executable, "-m", *command], env=environment, capture_output=True, check=True, text=True
        ).stdout
        assert f"nvidia: NVIDIA GeForce RTX 3090, sm_86, 0000:0a:00.0, {RTX_3090.uuid}" in shown
        assert f"100 MiB  pid {os.getpid()} " in shown


@pytest.mark.integration
@pytest.mark.parametrize(("used_mb", "is_complete"), [(26, True), (9000, False)])
def test_without_the_rights_of_root_memory_that_no_process_is_seen_to_hold_makes_processes_unknown(
    used_mb: int,
    is_complete: bool,  # noqa: FBT001
) -> None:
    """A game of another user may hold it; what driver and console hold is no process's."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        root.chmod(0o755)
        sys_tree = Sys(root / "sys")
        sys_tree.add(RX_7900_XTX)
        sys_tree.use(RX_7900_XTX, used_mb)
        a_process(root / "proc", 10, "game")
        (root / "proc/10/fd").chmod(0)
        output = subprocess.run(
            [sys.executable, "-c", AMD_SCRIPT, folder],
            capture_output=True,
            check=True,
        ).stdout
        (root / "proc/10/fd").chmod(0o700)
    assert [device.get("processesKnown", True) for device in json.loads(output)] == [is_complete]
