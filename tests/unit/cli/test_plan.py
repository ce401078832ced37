"""`flexinfer plan`: where a Model would go, who would have to leave, and why not elsewhere."""

import io
from pathlib import Path
from typing import Any

import pytest

from flexinfer.api.headers import Headers
from flexinfer.api.model import CacheStatus, Gpu, Model
from flexinfer.api.placement import Placement
from flexinfer.cli.__main__ import main
from flexinfer.cli.errors import CommandError
from flexinfer.cli.plan import UNKNOWN, described, documents_in, planned
from flexinfer.cli.planning import Plan, plan, without
from flexinfer.events.events import GpusObserved
from flexinfer.events.nodes import Device, DeviceProcess, NodeFacts
from flexinfer.placer.footprint import subject
from flexinfer.state.observed import ObservedState
from tests.builders import NOW, a_group, a_holder, a_model, a_node, a_pod, a_state, all_true, running

GPU = "nvidia.com/gpu"


def a_candidate(name: str, mb: int, *, shared: str = "", backend: str = "llamacpp") -> Model:
    """Return a Model for a GPU, as a file holds it."""
    gpu = Gpu(vendor="nvidia", vram_estimate_mb=mb, shared=shared)
    return a_model(name, gpu=gpu, backend=backend, uid="", version=0, generation=0, placement=None)


def a_card(node: str, total: int, *processes: DeviceProcess, architecture: str = "sm_86") -> GpusObserved:
    """Return the telemetry of a node with one card."""
    used = sum(process.used_mb for process in processes)
    device = Device(
        uuid=f"GPU-{node}",
        name="Card",
        architecture=architecture,
        total_mb=total,
        free_mb=total - used,
        used_mb=used,
        processes=processes,
    )
    return GpusObserved(node=node, boot="b", sample=1, devices=(device,))


def a_gpu_node(name: str, *, requested: int = 0) -> NodeFacts:
    """Return a node that offers one card."""
    allocatable = {"cpu": 8_000, "pods": 110_000, GPU: 1000}
    return a_node(name, allocatable=allocatable, requested={GPU: 1000 * requested, "pods": 1000 * requested})


def a_runner(name: str, node: str) -> Model:
    """Return a Model whose engine runs on the card of a node."""
    gpu = Gpu(vendor="nvidia", vram_estimate_mb=5000, count=1)
    return a_model(name, gpu=gpu, conditions=all_true(), placement=Placement(node=node, vendor="nvidia"))


def with_a_runner() -> ObservedState:
    """Return two nodes: on the large one a Model runs, the small one is idle."""
    runner = a_runner("busy", "large")
    process = DeviceProcess(pid=1, used_mb=5000, name="engine", pod_uid="pod-busy")
    return a_state(
        a_gpu_node("large", requested=1),
        a_card("large", 24000, process),
        a_gpu_node("small"),
        a_card("small", 6000, architecture="sm_52"),
        runner,
        running(runner, a_pod(runner, node="large")),
    )


def reasons(plan: Plan) -> dict[str, str]:
    """Return why it would not go to each of the nodes that are named."""
    return {other.node: other.reason for other in plan.elsewhere}


def test_a_model_that_fits_is_placed_as_the_placer_would() -> None:
    """With the devices that it would get, and why not elsewhere."""
    state = a_state(a_gpu_node("large"), a_card("large", 24000), a_gpu_node("small"), a_card("small", 6000))
    planned = plan(state, a_candidate("new", 20000), NOW)
    assert planned.fits
    assert planned.placement is not None
    assert planned.placement.node == "large"
    assert [device.uuid for device in planned.devices] == ["GPU-large"]
    assert "6000 MiB" in reasons(planned)["small"]


def test_a_node_that_fits_too_is_called_a_worse_choice() -> None:
    """The tightest fit is taken."""
    state = a_state(a_gpu_node("large"), a_card("large", 24000), a_gpu_node("small"), a_card("small", 6000))
    planned = plan(state, a_candidate("new", 4000), NOW)
    assert planned.placement is not None
    assert planned.placement.node == "small"
    assert reasons(planned)["large"].startswith("fits too, and is a worse choice")


def test_where_nothing_fits_it_is_named_who_would_have_to_leave() -> None:
    """And only where that would help."""
    planned = plan(with_a_runner(), a_candidate("new", 20000), NOW)
    assert not planned.fits
    assert {other.node: other.leaving for other in planned.elsewhere} == {
        "large": ("default/busy",),
        "small": (),
    }


def test_an_engine_that_cannot_run_on_a_card_has_that_reason() -> None:
    """No holder's leaving would help."""
    planned = plan(with_a_runner(), a_candidate("new", 2000, backend="vllm"), NOW)
    assert "sm_52" in reasons(planned)["small"]


def test_a_model_that_runs_already_is_planned_as_if_it_were_new() -> None:
    """Its own engine is not in its way."""
    planned = plan(with_a_runner(), a_candidate("busy", 20000), NOW)
    assert planned.placement is not None
    assert planned.placement.node == "large"
    assert planned.devices[0].free_mb == 24000


def test_a_spec_that_would_be_refused_says_why() -> None:
    """As the watcher would."""
    planned = plan(with_a_runner(), a_candidate("new", 2000, backend="nonsense"), NOW)
    assert not planned.fits
    assert planned.message.startswith("would be refused (UnknownBackend): spec.backend 'nonsense' is unknown")
    assert list(described(planned)) == [f"✗ default/new: {planned.message}"]


def with_a_member(mb: int) -> ObservedState:
    """Return two nodes: on the card of the large one a member of the group `card` has so much."""
    member = a_model(
        "member",
        gpu=Gpu(vendor="nvidia", vram_estimate_mb=mb, shared="card"),
        conditions=all_true(),
        placement=Placement(node="large", vendor="nvidia"),
    )
    return a_state(
        a_gpu_node("large", requested=1),
        a_card("large", 24000, DeviceProcess(pid=1, used_mb=mb, pod_uid="pod-member")),
        a_gpu_node("small"),
        a_card("small", 6000),
        member,
        running(member, a_pod(member, node="large")),
        a_group(a_holder("member", node="large", devices=("GPU-large",))),
    )


def test_the_members_of_a_shared_group_stay_together() -> None:
    """Those that hold its devices now are named, and whether all of them fit there at once."""
    planned = plan(with_a_member(4000), a_candidate("new", 5000, shared="card"), NOW)
    assert planned.placement is not None
    assert planned.placement.node == "large"
    assert planned.holders == ("default/member",)
    assert planned.sharing == (
        "it runs at the same time as the others of its shared group: default/member (together they need 9000 of 23488 MiB)"
    )
    assert reasons(planned)["small"] == "members of the shared group card run on large"


def test_what_a_holder_of_the_group_has_is_not_called_free() -> None:
    """It is free for the new one once the holder has left, and the card has less at present."""
    lines = list(described(plan(with_a_member(15000), a_candidate("new", 16000, shared="card"), NOW)))
    assert lines[0].endswith("MiB free on 1 device without the holders of its shared group (default/member)")
    assert "9000 of 24000 MiB free now" in lines[1]
    assert (
        "takes turns with the others of its shared group: default/member (together they need 31000 of"
        in lines[2]
    )


def test_a_model_takes_no_turns_with_itself() -> None:
    """The one that holds the devices is the one that is planned."""
    planned = plan(with_a_member(15000), a_candidate("member", 15000, shared="card"), NOW)
    assert (planned.holders, planned.sharing) == ((), "")


def test_models_of_a_file_that_do_not_fit_at_once_take_turns() -> None:
    """Counting those before it, which hold nothing yet."""
    state = a_state(a_gpu_node("large"), a_card("large", 24000))
    pair = [a_candidate("first", 16000, shared="big"), a_candidate("second", 15000, shared="big")]
    first, second = planned(state, pair, NOW)
    assert (first.fits, first.sharing) == (True, "")
    assert second.fits
    assert second.sharing == (
        "it takes turns with the others of its shared group: default/first (together they need 31000 of 23488 MiB)"
    )


def test_what_the_api_server_refuses_is_placed_nowhere() -> None:
    """And takes nothing from those after it."""
    state = a_state(a_gpu_node("large"), a_card("large", 24000))
    pair = [a_candidate("first", 20000), a_candidate("second", 20000)]
    first, second = planned(state, pair, NOW, {"default/first": "would be refused by the API server: no"})
    assert list(described(first)) == ["✗ default/first: would be refused by the API server: no"]
    assert second.fits


def test_each_model_of_a_file_is_planned_after_those_before_it() -> None:
    """Two that want the same card do not both get it."""
    state = a_state(a_gpu_node("large"), a_card("large", 24000))
    first, second = planned(state, [a_candidate("first", 20000), a_candidate("second", 20000)], NOW)
    assert first.fits
    assert not second.fits


def test_without_a_model_its_requests_and_its_memory_are_free() -> None:
    """Those of no other."""
    state = without(with_a_runner(), ["default/busy", "default/unknown"])
    assert state.nodes["large"].requested == {GPU: 0, "pods": 0}
    [device] = state.gpus["large"].observed.devices
    assert (device.free_mb, device.used_mb, device.processes) == (24000, 0, ())
    assert not state.models


def test_a_plan_is_printed_with_the_other_nodes_and_the_remedy() -> None:
    """One block a Model."""
    lines = list(described(plan(with_a_runner(), a_candidate("new", 20000), NOW)))
    assert lines[0] == "✗ default/new: no node fits (2 nodes)"
    assert lines[1].startswith("    large  ")
    assert lines[1].endswith("; it would fit if default/busy left")
    assert lines[2].startswith("    small  ")
    assert lines[3].startswith("  Remedy: ")
    fits = list(described(plan(with_a_runner(), a_candidate("new", 3000), NOW)))
    assert fits[0].startswith("✓ default/new: scheduled to node small (1 nvidia device, 3000 MiB)")
    assert fits[1] == "    GPU-small  Card (sm_52), 6000 of 6000 MiB free now"
    assert fits[2].startswith("    pvc://models/")
    assert fits[3] == "  not on:"


def plain(**changes: Any) -> Model:
    """Return a Model for a GPU that states no memory."""
    context = {"contextSize": 8192}
    fields: dict[str, Any] = {"gpu": Gpu(vendor="nvidia"), "placement": None, "config": context} | changes
    return a_model("plain", **fields)


def test_a_model_that_states_no_memory_is_planned_by_what_is_known_of_the_existing_one() -> None:
    """The headers of its weights, while it loads the same ones."""
    existing = plain(cache_status=CacheStatus(ready=True, headers=Headers(weights_mb=9000)))
    state = a_state(
        a_gpu_node("large"), a_card("large", 24000), a_gpu_node("small"), a_card("small", 6000), existing
    )
    placement = plan(state, plain(), NOW).placement
    assert placement is not None
    assert (placement.node, placement.footprint_source) == ("large", "Headers")
    other = plan(state, plain(source="pvc://models/other.gguf"), NOW).placement
    assert other is not None
    assert other.footprint_source == ""


def test_what_was_measured_counts_while_the_spec_is_the_same() -> None:
    """Another context is another footprint."""
    measured = Placement(
        node="small",
        vendor="nvidia",
        footprint_mb=7000,
        footprint_source="Measured",
        measured_for=subject(plain().spec),
    )
    state = a_state(
        a_gpu_node("large"),
        a_card("large", 24000),
        a_gpu_node("small"),
        a_card("small", 6000),
        plain(placement=measured),
    )
    placed = plan(state, plain(), NOW)
    assert placed.placement is not None
    assert (placed.placement.node, placed.placement.footprint_mb) == ("large", 7000)
    assert "7000 MiB as measured" in next(described(placed))
    other = plan(state, plain(config={"contextSize": 4096}), NOW)
    assert UNKNOWN in "\n".join(described(other))


MODEL = "{kind: Model, metadata: {name: a}, spec: {backend: llamacpp, source: pvc://models/a.gguf}}"


def test_models_are_read_from_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the namespace of the command unless they name one."""
    (tmp_path / "m.yaml").write_text(
        f"{MODEL}\n---\n---\n{MODEL.replace('name: a', 'name: b, namespace: team')}"
    )
    documents = documents_in(str(tmp_path / "m.yaml"), "mine")
    assert [document.model.key for document in documents] == ["mine/a", "team/b"]
    monkeypatch.setattr("sys.stdin", io.StringIO(MODEL))
    assert [document.model.key for document in documents_in("-", "default")] == ["default/a"]


def test_the_status_of_a_model_is_no_part_of_its_plan(tmp_path: Path) -> None:
    """As `kubectl get model -o yaml` prints it, from whatever release: it may be of another shape."""
    text = MODEL.replace("{kind: Model,", "{kind: Model, status: {placement: {devices: [GPU-1]}},")
    (tmp_path / "m.yaml").write_text(text)
    [document] = documents_in(str(tmp_path / "m.yaml"), "mine")
    assert document.model.status.placement is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no Model"),
        ("{", "is not YAML"),
        ("{kind: Pod}", "document 1 is Pod; plan reads Models alone"),
        (f"{MODEL}\n---\n3", "document 2 is not an object"),
        (MODEL.replace("name: a", "uid: a"), "document 1 has no metadata.name"),
        (
            MODEL.replace("source: pvc://models/a.gguf", "source: 3"),
            r"document 1: Expected `str`.*spec.source",
        ),
    ],
)
def test_what_is_no_model_is_named(tmp_path: Path, text: str, message: str) -> None:
    """By file and document."""
    (tmp_path / "m.yaml").write_text(text)
    with pytest.raises(CommandError, match=message):
        documents_in(str(tmp_path / "m.yaml"), "default")


def test_a_file_that_is_missing_is_an_error_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever runs or not."""
    assert main(["plan", "-f", "/nowhere.yaml"]) == 1
    assert "/nowhere.yaml cannot be read" in capsys.readouterr().err
