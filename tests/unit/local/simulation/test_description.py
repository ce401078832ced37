"""The file of `--simulate-gpus`: what it means, and one sentence for everything that is wrong with it."""

from pathlib import Path

import pytest
import yaml

from flexinfer.local.simulation import files
from flexinfer.local.simulation.description import Description, DescriptionError, description_of
from flexinfer.local.simulation.files import SimulationError
from flexinfer.local.simulation.profiles import PROFILES

ROOT = Path(__file__).resolve().parents[4]
EXAMPLES = sorted((ROOT / "examples" / "simulated").glob("*.yaml"))
TWO = """
nodes:
- name: tower
  gpus:
  - {profile: rtx-3090, releaseDelay: 2s}
  - {profile: rx-7900-xtx, memoryMB: 20000}
  - {profile: rtx-3090}
- name: mini
footprints: {coder: 14000, other/coder: 9000}
foreign: [{node: tower, gpu: 1, memoryMB: 15000, name: game}]
"""


def described(text: str) -> Description:
    """Return the description that a text holds."""
    return description_of(yaml.safe_load(text))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.name))
def test_the_examples_can_be_simulated(path: Path) -> None:
    """Both, as they are."""
    assert files.read(path).nodes


def test_a_card_has_the_memory_of_its_profile_unless_it_states_another() -> None:
    """In MiB."""
    first, second, _ = described(TWO).nodes[0].gpus
    assert (first.total_mb, second.total_mb) == (PROFILES["rtx-3090"].memory_mb, 20000)


def test_a_footprint_of_a_namespace_goes_before_one_of_a_name_alone() -> None:
    """And what the file does not name has none."""
    simulated = described(TWO)
    assert simulated.footprint("other", "coder") == 9000
    assert simulated.footprint("default", "coder") == 14000
    assert simulated.footprint("default", "else") is None


def test_a_node_offers_the_cards_of_each_vendor_by_their_uuids() -> None:
    """In the forms of the vendors, each card its own, and the same at every start."""
    node, mini = described(TWO).nodes
    first, second, third = (node.uuid(index) for index in range(3))
    assert node.resources() == {"nvidia.com/gpu": [first, third], "amd.com/gpu": [second]}
    assert mini.resources() == {}
    assert len(first) == len("GPU-") + 36
    assert len(second) == len("GPU-") + 16
    assert described(TWO).nodes[0].uuid(0) == first


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "the file: Expected `object`, got `null`", id="empty"),
        pytest.param("nodes: []", "nodes: the list is empty; describe at least one node", id="no nodes"),
        pytest.param("foreign: []", "the file: Object missing required field `nodes`", id="nodes missing"),
        pytest.param(
            "nodes: [{name: a, gpu: []}]", r"nodes\[0\]: Object contains unknown field `gpu`", id="typo"
        ),
        pytest.param(
            "nodes: [{name: A}]", r"nodes\[0\].name: 'A' is not a node name; use lower case", id="name"
        ),
        pytest.param(
            "nodes: [{name: a}, {name: a}]", r"nodes\[1\].name: there are two nodes named 'a'", id="twice"
        ),
        pytest.param(
            "nodes: [{name: a, labels: {'b c': d}}]", r"nodes\[0\].labels: b c=d is not a label", id="label"
        ),
        pytest.param(
            "nodes: [{name: a, gpus: [{profile: RTX 3090}]}]",
            r"nodes\[0\].gpus\[0\].profile: 'RTX 3090' is not a known card; did you mean rtx-3090\? Choose one of: gtx-980-ti",
            id="profile",
        ),
        pytest.param(
            "nodes: [{name: a, gpus: [{profile: rtx-3090, memoryMB: 0}]}]",
            r"nodes\[0\].gpus\[0\].memoryMB: Expected `int` >= 1",
            id="memory",
        ),
        pytest.param(
            "nodes: [{name: a, gpus: [{profile: rtx-3090, releaseDelay: soon}]}]",
            r"nodes\[0\].gpus\[0\].releaseDelay: 'soon' is not a duration such as 90s",
            id="delay",
        ),
        pytest.param(
            "{nodes: [{name: a}], footprints: {m: many}}",
            r"footprints\[...\]: Expected `int`",
            id="footprint",
        ),
        pytest.param(
            "{nodes: [{name: a}], foreign: [{node: b, memoryMB: 1}]}",
            r"foreign\[0\].node: no node is named 'b'; choose one of: a",
            id="foreign node",
        ),
        pytest.param(
            "{nodes: [{name: a}], foreign: [{node: a, memoryMB: 1}]}",
            r"foreign\[0\].gpu: node a has no card 0; it has no cards",
            id="foreign card",
        ),
    ],
)
def test_a_problem_names_its_field_and_the_remedy(text: str, message: str) -> None:
    """Whatever is wrong first."""
    with pytest.raises(DescriptionError, match=message):
        described(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """With an example to start from; text that is not YAML with its line."""
    with pytest.raises(SimulationError, match=r"missing.yaml cannot be read .*homelab.yaml is an example"):
        files.read(tmp_path / "missing.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("nodes: [")
    with pytest.raises(SimulationError, match=r"broken.yaml is not YAML: .* line 1"):
        files.read(broken)
