"""The driver of simulated cards: from a kubelet's checkpoints and the file to what the agent reads."""

import os
from pathlib import Path

import msgspec
import pytest

from flexinfer.agent.vendors import simulated
from flexinfer.events.nodes import Device
from flexinfer.local import instance as instances
from flexinfer.local.instance import Instance
from flexinfer.local.ports import Ports
from flexinfer.local.simulation import files
from flexinfer.local.simulation.driver import DEFAULT_FOOTPRINT_MB, Driver, delete_other_nodes
from flexinfer.local.simulation.engines import checkpoints_of
from flexinfer.local.simulation.files import Simulation
from localkube.kubelet.api_errors import UnavailableError
from localkube.kubelet.checkpoint import CheckpointManager, ContainerRecord, PodRecord
from localkube.kubelet.client import Object
from localkube.process_identity import Identity, identify

DESCRIBED = """
nodes:
- name: tower
  gpus: [{profile: rtx-3090, releaseDelay: 0s}, {profile: rtx-3090, releaseDelay: 0s}]
"""
GPU = "nvidia.com/gpu"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return the file of the simulation."""
    path = tmp_path / "described.yaml"
    path.write_text(DESCRIBED)
    return path


@pytest.fixture
def simulation(tmp_path: Path, file: Path) -> Instance:
    """Return an instance with a node of two cards."""
    state = tmp_path / "state"
    state.mkdir()
    instance = Instance(state, "i", Ports(proxy=1, api=2, nats=3, node=4))
    files.save(instance, file)
    return instance


def saved(instance: Instance) -> Simulation:
    """Return the simulation of an instance."""
    simulation = files.saved(instance)
    assert simulation is not None
    return simulation


def driver(instance: Instance) -> Driver:
    """Return the driver of an instance."""
    return Driver(instance, saved(instance))


def uuids(instance: Instance) -> tuple[str, str]:
    """Return the uuids of the two cards."""
    node = saved(instance).described.nodes[0]
    return node.uuid(0), node.uuid(1)


def a_pod(instance: Instance, *, allocated: tuple[str, ...] = (), environment: str = "") -> PodRecord:
    """Return the checkpoint of a Pod whose engine is this process; it is on disk."""
    container = {
        "name": "engine",
        "resources": {"limits": {GPU: "1"}} if allocated else {},
        "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": environment}] if environment else [],
    }
    pod = {
        "metadata": {
            "uid": "0c5d8f3a-0000-4000-8000-000000000000",
            "name": "coder-0",
            "namespace": "default",
            "labels": {"flexinfer.ai/model": "coder"},
        },
        "spec": {"containers": [container]},
    }
    record = PodRecord(pod=pod, address="127.64.0.1", started_at="", boot="b")
    record.device_ids = {GPU: list(allocated)} if allocated else {}
    record.containers = {"engine": ContainerRecord(identity=identify(os.getpid()))}
    CheckpointManager(checkpoints_of(instance, "tower")).save(record)
    return record


def as_the_agent_sees_it(instance: Instance) -> dict[str, Device]:
    """Return the cards of the node, by uuid, as the agent's vendor reads them."""
    probe = simulated.vendor(str(files.devices(instance, "tower"))).probe()
    assert probe.message == ""
    return {device.uuid: device for device in probe.devices}


def test_the_agent_sees_every_card(simulation: Instance) -> None:
    """Before any engine has started."""
    driver(simulation).step()
    assert set(as_the_agent_sees_it(simulation)) == set(uuids(simulation))


@pytest.mark.parametrize("bound", ["allocated", "visible"])
def test_an_engine_holds_memory_of_the_card_that_it_was_given(
    simulation: Instance, file: Path, bound: str
) -> None:
    """By the kubelet, or by what its environment makes visible; the file states how much."""
    _, second = uuids(simulation)
    file.write_text(DESCRIBED + "footprints: {coder: 14000}\n")
    if bound == "allocated":
        a_pod(simulation, allocated=(second,))
    else:
        a_pod(simulation, environment=second)
    driver(simulation).step()
    used = as_the_agent_sees_it(simulation)
    assert [device.used_mb for uuid, device in used.items() if uuid != second] == [0]
    [process] = used[second].processes
    assert (process.pid, process.used_mb) == (os.getpid(), 14000)
    assert process.pod_uid == "0c5d8f3a-0000-4000-8000-000000000000"


def test_an_engine_of_unknown_size_takes_what_a_context_takes(simulation: Instance) -> None:
    """Neither the file nor its Model says more."""
    first, _ = uuids(simulation)
    a_pod(simulation, allocated=(first,))
    driver(simulation).step()
    assert as_the_agent_sees_it(simulation)[first].used_mb == DEFAULT_FOOTPRINT_MB


def test_an_engine_takes_what_its_model_estimated_when_it_started(simulation: Instance) -> None:
    """An estimate that changes afterwards is for the next start."""
    first, _ = uuids(simulation)
    driving = driver(simulation)
    model = {"metadata": {"namespace": "default", "name": "coder"}, "spec": {"gpu": {"vramEstimateMB": 9000}}}
    driving.estimates.note("ADDED", model)
    a_pod(simulation, allocated=(first,))
    driving.step()
    driving.estimates.note("MODIFIED", {**model, "spec": {"gpu": {"vramEstimateMB": 1000}}})
    driving.estimates.note("DELETED", model)
    driving.step()
    assert as_the_agent_sees_it(simulation)[first].used_mb == 9000


def test_an_engine_that_has_ended_holds_nothing(simulation: Instance) -> None:
    """Its checkpoint may still be there."""
    first, _ = uuids(simulation)
    record = a_pod(simulation, allocated=(first,))
    driving = driver(simulation)
    driving.step()
    record.containers["engine"].identity = Identity(os.getpid(), 1)
    CheckpointManager(checkpoints_of(simulation, "tower")).save(record)
    driving.step()
    assert as_the_agent_sees_it(simulation)[first].used_mb == 0


def test_a_foreign_process_comes_and_goes_with_the_file(simulation: Instance, file: Path) -> None:
    """It keeps its pid and start while it is there."""
    first, _ = uuids(simulation)
    driving = driver(simulation)
    file.write_text(DESCRIBED + "foreign: [{node: tower, memoryMB: 15000, name: game}]\n")
    driving.step()
    [process] = as_the_agent_sees_it(simulation)[first].processes
    assert (process.name, process.used_mb, process.pod_uid) == ("game", 15000, "")
    driving.step()
    assert as_the_agent_sees_it(simulation)[first].processes == (process,)
    file.write_text(DESCRIBED)
    os.utime(file, ns=(1, 1))  # the clock of the file system may be coarse
    driving.step()
    assert as_the_agent_sees_it(simulation)[first].used_mb == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nodes: []", "nodes: the list is empty"),
        ("nodes: [{name: other}]", "describes other nodes or cards; they apply at the next `flexinfer up`"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing_and_the_telemetry_says_so(
    simulation: Instance, file: Path, text: str, message: str
) -> None:
    """Until it is fixed."""
    driving = driver(simulation)
    driving.step()
    file.write_text(text)
    os.utime(file, ns=(1, 1))
    driving.step()
    probe = simulated.vendor(str(files.devices(simulation, "tower"))).probe()
    assert message in probe.message
    assert len(probe.devices) == 2
    file.write_text(DESCRIBED)
    os.utime(file, ns=(2, 2))
    driving.step()
    assert len(as_the_agent_sees_it(simulation)) == 2


def test_a_file_that_was_read_while_it_was_written_is_read_again(simulation: Instance, file: Path) -> None:
    """An editor empties it and writes it, within one tick of the file system's clock."""
    driving = driver(simulation)
    driving.step()
    for text in ("", DESCRIBED + "foreign: [{node: tower, memoryMB: 15000, name: game}]\n"):
        file.write_text(text)
        os.utime(file, ns=(1, 1))
        driving.step()
    assert [device.used_mb for device in as_the_agent_sees_it(simulation).values()] == [15000, 0]


class Nodes:
    """The Nodes of an API server whose first answer is an error."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.failed = False

    async def get(self, path: str, **query: str) -> Object:
        """Return the Nodes of simulations."""
        assert query == {"labelSelector": "flexinfer.ai/simulated"}
        if not self.failed:
            self.failed = True
            raise UnavailableError("not yet")
        return {"items": [{"metadata": {"name": name, "uid": f"uid-{name}"}} for name in self.names]}

    async def delete(self, path: str, *, uid: str) -> None:
        """Delete one."""
        name = path.removeprefix("/api/v1/nodes/")
        assert uid == f"uid-{name}"
        self.names.remove(name)


async def test_nodes_that_are_described_no_more_are_deleted(simulation: Instance) -> None:
    """As soon as the API server answers: no Pod is bound to a node that never comes back."""
    nodes = Nodes("tower", "former")
    await delete_other_nodes(nodes, saved(simulation).described)
    assert nodes.names == ["tower"]


def test_an_instance_without_a_simulation_has_none(tmp_path: Path) -> None:
    """Its node is this machine; a copy that is damaged is named."""
    instance = Instance(tmp_path, "i", Ports(proxy=1, api=2, nats=3, node=4))
    assert files.saved(instance) is None
    files.path(instance).write_text("{")
    with pytest.raises(instances.InstanceError, match=r"simulation.json cannot be read"):
        files.saved(instance)


def test_what_the_vendor_cannot_read_is_a_message(tmp_path: Path) -> None:
    """No error: the agent starts before the driver has written anything."""
    probe = simulated.vendor(str(tmp_path / "gpus.json")).probe()
    assert "gpus.json cannot be read" in probe.message
    assert probe.devices == ()
    (tmp_path / "gpus.json").write_bytes(msgspec.json.encode({"devices": 3}))
    assert "cannot be read" in simulated.vendor(str(tmp_path / "gpus.json")).probe().message
