"""The programs of an instance with simulated GPUs: one node and one agent for each described node."""

from pathlib import Path

import pytest

from flexinfer.local.instance import Instance, ensure
from flexinfer.local.kubelet import options
from flexinfer.local.simulation import files
from flexinfer.local.supervisor import provisioning
from flexinfer.local.supervisor.instance_programs import programs
from flexinfer.local.supervisor.program import Program

HOMELAB = Path(__file__).resolve().parents[4] / "examples" / "simulated" / "homelab.yaml"


@pytest.fixture
def homelab(tmp_path: Path) -> Instance:
    """Return an instance of the example, of which nothing runs."""
    instance = ensure(tmp_path / "state")
    provisioning.write_files(instance)
    files.save(instance, HOMELAB)
    return instance


def by_name(instance: Instance, *, separate: bool = False) -> dict[str, Program]:
    """Return its programs."""
    return {program.name: program for program in programs(instance, separate=separate)}


@pytest.mark.parametrize("separate", [False, True])
def test_each_node_has_a_kubelet_and_an_agent_of_its_own(homelab: Instance, separate: bool) -> None:  # noqa: FBT001
    """And this machine has none."""
    names = set(by_name(homelab, separate=separate))
    nodes = {"old-tower", "workstation", "mini-pc"}
    assert {name for name in names if name.startswith("node")} == {f"node-{node}" for node in nodes}
    assert {name for name in names if name.startswith("agent")} == {f"agent-{node}" for node in nodes}
    assert "gpus" in names


def test_the_controllers_run_without_the_agent_of_this_machine(homelab: Instance) -> None:
    """It would report the cards that this machine really has."""
    argv = by_name(homelab)["controllers"].argv
    assert argv[-7:] == ("run", "watcher", "placer", "prefetcher", "launcher", "reaper", "arbiter")


def test_a_node_offers_the_cards_that_are_described_and_no_others(homelab: Instance) -> None:
    """By uuid, whatever this machine has; its PVCs are those of all nodes."""
    argv = {name: program.argv[3:] for name, program in by_name(homelab).items()}
    tower, mini = options(argv["node-old-tower"]), options(argv["node-mini-pc"])
    [uuid] = tower.resources["nvidia.com/gpu"]
    assert uuid.startswith("GPU-")
    assert mini.resources == {}
    assert tower.labels == {"flexinfer.ai/simulated": "true", "room": "attic"}
    assert tower.shared_volumes == mini.shared_volumes == homelab.state / "volumes"
    assert tower.state != mini.state


def test_an_agent_reads_the_cards_of_its_own_node(homelab: Instance) -> None:
    """And writes the port of its health where no other does."""
    agents = [by_name(homelab)[f"agent-{node}"].variables for node in ("old-tower", "mini-pc")]
    assert [agent["FLEXINFER_NODE_NAME"] for agent in agents] == ["old-tower", "mini-pc"]
    for variable in ("FLEXINFER_SIMULATED_GPUS", "FLEXINFER_HEALTH_PORT_FILE"):
        assert len({agent[variable] for agent in agents}) == 2


def test_other_nodes_change_the_driver_alone(homelab: Instance, tmp_path: Path) -> None:
    """A node that is described as before continues running."""
    before = by_name(homelab)
    smaller = tmp_path / "smaller.yaml"
    smaller.write_text("nodes: [{name: old-tower, labels: {room: attic}, gpus: [{profile: gtx-980-ti}]}]")
    files.save(homelab, smaller)
    after = by_name(homelab)
    assert set(before) - set(after) == {
        "node-workstation",
        "node-mini-pc",
        "agent-workstation",
        "agent-mini-pc",
    }
    changed = {name for name, program in after.items() if program.fingerprint != before[name].fingerprint}
    assert changed == {"gpus"}
