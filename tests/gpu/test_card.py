"""A real NVIDIA card: what the agent reads of it against `nvidia-smi`, and what a process of its own does to it."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from flexinfer.agent.sample import DeviceSample, sample
from flexinfer.agent.vendors import Vendor, all_vendors
from flexinfer.events.nodes import Device
from tests.instance import instance
from tests.node.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HELD_MB = 2048
SLACK_MB = 64
"""What other processes may take or give back between two looks."""
MACHINE_PIDS = "pid:[4026531836]"
"""The first namespace of process ids (PROC_PID_INIT_INO of the kernel)."""
FIELDS = "uuid,name,pci.bus_id,memory.total,memory.used,compute_cap,temperature.gpu"


class Shown(msgspec.Struct, frozen=True):
    """A card as nvidia-smi shows it."""

    uuid: str
    name: str
    pci: str
    total_mb: int
    used_mb: int
    architecture: str
    temperature: int


@pytest.fixture(scope="module")
def shown() -> list[Shown]:
    """Return the cards of this machine by nvidia-smi, or skip."""
    if shutil.which("nvidia-smi") is None:
        pytest.skip("no NVIDIA card: nvidia-smi is not on PATH")
    command = ["nvidia-smi", f"--query-gpu={FIELDS}", "--format=csv,noheader,nounits"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if result.returncode or not result.stdout.strip():
        pytest.skip(f"no NVIDIA card: nvidia-smi says {(result.stdout + result.stderr).strip()}")
    return [_card(line.split(", ")) for line in result.stdout.splitlines()]


def _card(fields: list[str]) -> Shown:
    uuid, name, pci, total, used, capability, temperature = fields
    domain, _, address = pci.lower().partition(":")
    return Shown(
        uuid=uuid,
        name=name,
        pci=f"{int(domain, 16):04x}:{address}",
        total_mb=int(total),
        used_mb=int(used),
        architecture=f"sm_{capability.replace('.', '')}",
        temperature=int(temperature),
    )


class Agent:
    """The reader of the agent."""

    def __init__(self) -> None:
        self._vendors: list[Vendor] = [vendor for vendor in all_vendors() if vendor.name == "nvidia"]
        self._last = DeviceSample()

    def devices(self) -> dict[str, Device]:
        """Return the devices of a new sample by uuid."""
        self._last = sample(self._vendors, self._last)
        return {device.uuid: device for device in self._last.devices}


@contextlib.contextmanager
def holding(uuid: str) -> Iterator[int]:
    """Run a process that holds memory of a device; yields its pid once it does."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": uuid}
    command = [sys.executable, "-m", "tests.gpu.cuda", "hold", str(HELD_MB)]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process.pid
        process.communicate("")


def test_the_agent_reads_what_nvidia_smi_shows(shown: list[Shown]) -> None:
    """Each card by its uuid."""
    devices = Agent().devices()
    assert sorted(devices) == sorted(card.uuid for card in shown)
    for card in shown:
        device = devices[card.uuid]
        assert device.healthy
        assert (device.name, device.pci, device.architecture) == (card.name, card.pci, card.architecture)
        assert abs(device.total_mb - card.total_mb) <= 1
        assert abs(device.used_mb - card.used_mb) <= SLACK_MB
        assert abs(device.temperature - card.temperature) <= 10
        assert device.total_mb >= device.free_mb + device.used_mb > 0.9 * device.total_mb


def test_memory_of_a_process_is_seen_to_be_its_own_and_seen_given_back(shown: list[Shown]) -> None:
    """2 GiB, with the name, start and pid of the process that took them."""
    agent, uuid = Agent(), shown[0].uuid
    before = agent.devices()[uuid]
    with holding(uuid) as pid:
        during = agent.devices()[uuid]
        assert during.used_mb - before.used_mb >= HELD_MB - SLACK_MB
        assert before.free_mb - during.free_mb >= HELD_MB - SLACK_MB
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    until(
        lambda: abs(agent.devices()[uuid].used_mb - before.used_mb) <= SLACK_MB,
        30,
        "the memory is given back",
    )
    assert pid not in {process.pid for process in agent.devices()[uuid].processes}
    own = [process for process in during.processes if process.pid == pid]
    if str(Path("/proc/self/ns/pid").readlink()) != MACHINE_PIDS:
        pytest.skip(
            "memory is seen, its process is not: this container has pids of its own, the driver names the machine's"
        )
    assert [(process.name, process.started > 0, process.used_mb >= HELD_MB) for process in own] == [
        (name, True, True)
    ]


def test_a_process_that_is_bound_by_uuid_sees_that_card_as_its_first(shown: list[Shown]) -> None:
    """Whatever index the card has: what `*_VISIBLE_DEVICES` is given is the uuid."""
    for card in shown:
        environment = os.environ | {"CUDA_VISIBLE_DEVICES": card.uuid}
        output = subprocess.run(
            [sys.executable, "-m", "tests.gpu.cuda", "uuids"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert output.split() == [card.uuid]


def test_the_command_line_shows_every_card(shown: list[Shown]) -> None:
    """`flexinfer gpus --here`."""
    output = subprocess.run(
        [sys.executable, "-m", "flexinfer.cli", "gpus", "--here"], capture_output=True, text=True, check=True
    ).stdout
    for card in shown:
        assert f"nvidia: {card.name}, {card.architecture}, {card.pci}, {card.uuid}" in output


def test_a_model_of_the_local_node_gets_the_card_of_its_placement(shown: list[Shown], tmp_path: Path) -> None:
    """Its engine, whatever it makes of it, may see that card alone, by uuid; telemetry is the agent's own."""
    spec = {
        "backend": "llamacpp",
        "source": "pvc://models/smollm2.gguf",
        "gpu": {"vendor": "nvidia", "vramEstimateMB": 512},
    }
    model = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "bound"},
        "spec": spec,
    }
    (tmp_path / "model.json").write_text(json.dumps(model))
    with instance(tmp_path / "state") as running:
        running.kubectl("apply", "-f", str(tmp_path / "model.json"))
        running.kubectl("wait", "--for=condition=Ready", "mdl/bound", "--timeout=90s")
        [placed] = json.loads(running.kubectl("get", "mdl", "bound", "-o", "json"))["status"]["placement"][
            "devices"
        ]
        [container] = json.loads(running.kubectl("get", "pod", "bound-0", "-o", "json"))["status"][
            "containerStatuses"
        ]
        pid = int(container["containerID"].removeprefix("process://").split(".")[0])
        variables = dict(
            entry.split("=", 1)
            for entry in Path(f"/proc/{pid}/environ").read_text().split("\0")
            if "=" in entry
        )
    assert placed["uuid"] in {card.uuid for card in shown}
    assert container["allocatedResourcesStatus"][0]["resources"][0]["resourceID"] == placed["uuid"]
    assert variables["CUDA_VISIBLE_DEVICES"] == placed["uuid"]
