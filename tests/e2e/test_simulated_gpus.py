"""Simulated GPUs as a user sees them: three nodes, two vendors, one machine, and a real llama.cpp.

Placement, telemetry and binding are the product's own; only the cards are made up.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.cli.gpu_usage import FOREIGN, MODEL, Card, usage
from flexinfer.cli.observed import observed_state
from flexinfer.cli.plan import DOES_NOT_FIT
from flexinfer.cli.reach import NatsServer
from flexinfer.local.instance import load
from tests.instance import Running, instance, until
from tests.patience import patient

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
HOMELAB = ROOT / "examples" / "simulated" / "homelab.yaml"
DUAL = "- {name: dual, gpus: [{profile: rtx-3090}, {profile: rtx-3090}]}\n"
GAME = "\nforeign:\n- {node: workstation, gpu: 0, memoryMB: 15000, name: game}\n"
SECONDS = 60.0


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example, with one more node of two cards, that the tests may change."""
    copy = tmp_path_factory.mktemp("described") / "homelab.yaml"
    copy.write_text(HOMELAB.read_text().replace("\nnodes:\n", f"\nnodes:\n{DUAL}"))
    return copy


@pytest.fixture(scope="module")
def homelab(tmp_path_factory: pytest.TempPathFactory, file: Path, api: str) -> Iterator[Running]:
    """Return a running homelab of simulated nodes."""
    if api != "local":
        pytest.skip("simulated GPUs need the local API")
    state = tmp_path_factory.mktemp("instance") / "state"
    with instance(state, "--simulate-gpus", str(file)) as running:
        yield running


def a_model(tmp_path: Path, name: str, gpu: dict[str, Any], **changes: Any) -> Path:
    """Write the file of a Model that is served from the PVC of the instance."""
    spec = {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf", "gpu": gpu} | changes
    model = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model", "metadata": {"name": name}, "spec": spec}
    path = tmp_path / f"{name}.json"
    path.write_text(json.dumps(model))
    return path


def apply(running: Running, tmp_path: Path, name: str, gpu: dict[str, Any], **changes: Any) -> None:
    """Apply such a Model."""
    running.kubectl("apply", "-f", str(a_model(tmp_path, name, gpu, **changes)))


def placed(running: Running, name: str) -> dict[str, Any]:
    """Return the condition Placed of a Model; empty before its first."""
    model = json.loads(running.kubectl("get", "mdl", name, "-o", "json"))
    return next((c for c in model.get("status", {}).get("conditions", ()) if c["type"] == "Placed"), {})


def cards(running: Running, node: str) -> tuple[Card, ...]:
    """Return the cards of a node, as `flexinfer gpus` shows them."""
    nodes = usage(asyncio.run(observed_state(NatsServer(url=load(running.state).exports()["NATS_URL"]))))
    return next((each.cards for each in nodes if each.node == node), ())


def used(running: Running, node: str) -> int:
    """Return the memory in use on the first card of a node; -1 before its first telemetry."""
    return next((card.used_mb for card in cards(running, node)), -1)


def placement_of(running: Running, name: str) -> dict[str, Any]:
    """Return the placement of a Model once it has one."""
    until(lambda: placed(running, name).get("status") == "True", SECONDS, f"{name} is placed")
    placement: dict[str, Any] = json.loads(
        running.kubectl("get", "mdl", name, "-o", "jsonpath={.status.placement}")
    )
    return placement


def test_every_described_node_is_a_node_that_offers_its_cards(homelab: Running) -> None:
    """By the resource that a device plugin would offer, eight times each card."""
    nodes = json.loads(homelab.kubectl("get", "nodes", "-o", "json"))["items"]
    offered = {
        node["metadata"]["name"]: {k: v for k, v in node["status"]["allocatable"].items() if "/" in k}
        for node in nodes
    }
    assert offered == {
        "old-tower": {"nvidia.com/gpu": "8"},
        "workstation": {"amd.com/gpu": "8"},
        "mini-pc": {},
        "dual": {"nvidia.com/gpu": "16"},
    }


def test_a_model_goes_to_the_card_that_it_fits_and_takes_its_memory(homelab: Running, tmp_path: Path) -> None:
    """Whatever the vendor; the memory is held by the engine's own process and comes back when that has ended."""
    apply(homelab, tmp_path, "large", {"vendor": "auto", "vramEstimateMB": 20000})
    placement = placement_of(homelab, "large")
    assert (placement["node"], placement["vendor"]) == ("workstation", "amd")
    homelab.kubectl("wait", "--for=condition=Ready", "mdl/large", f"--timeout={patient(SECONDS):g}s")
    until(lambda: used(homelab, "workstation") == 20000, SECONDS, "the card is in use")
    pod = json.loads(homelab.kubectl("get", "pod", "large-0", "-o", "json"))["status"]["containerStatuses"][0]
    [card] = cards(homelab, "workstation")
    [holder] = card.holders
    assert (holder.kind, holder.name, holder.memory_mb) == (MODEL, "default/large", 20000)
    assert pod["containerID"].startswith(f"process://{holder.pid}.")
    [allocated] = pod["allocatedResourcesStatus"]
    assert allocated["resources"][0]["resourceID"] == card.uuid
    assert "model default/large" in homelab.flexinfer("gpus").stdout
    homelab.kubectl("delete", "mdl", "large")
    until(lambda: used(homelab, "workstation") == 0, SECONDS, "the memory is free again")


def test_an_engine_that_cannot_run_on_a_generation_is_refused_with_the_reason(
    homelab: Running, tmp_path: Path
) -> None:
    """The node that its selector leaves has a Maxwell."""
    gpu = {"vendor": "nvidia", "vramEstimateMB": 2000}
    apply(homelab, tmp_path, "modern", gpu, backend="vllm", nodeSelector={"room": "attic"})
    until(lambda: placed(homelab, "modern").get("reason") == "NoNodeFits", SECONDS, "modern is refused")
    assert "sm_52" in placed(homelab, "modern")["message"]
    homelab.kubectl("delete", "mdl", "modern")


def test_an_engine_on_two_cards_is_told_so_and_takes_memory_of_both(homelab: Running, tmp_path: Path) -> None:
    """Half of its footprint each."""
    apply(homelab, tmp_path, "pair", {"vendor": "nvidia", "count": 2, "vramEstimateMB": 30000})
    placement = placement_of(homelab, "pair")
    assert placement["node"] == "dual"
    until(lambda: [c.used_mb for c in cards(homelab, "dual")] == [15000] * 2, SECONDS, "both are in use")
    pod = json.loads(homelab.kubectl("get", "pod", "pair-0", "-o", "json"))
    assert " --tensor-split 1,1" in " ".join(pod["spec"]["containers"][0]["args"])
    assert sorted(c.uuid for c in cards(homelab, "dual")) == sorted(d["uuid"] for d in placement["devices"])
    homelab.kubectl("delete", "mdl", "pair")


def test_a_footprint_that_is_not_stated_is_read_from_the_weights_and_then_measured(
    homelab: Running, tmp_path: Path, file: Path
) -> None:
    """The simulated engine takes another amount than the headers say; that is what the next start counts on."""
    described = file.read_text()
    file.write_text(described.replace("\nfootprints: {}\n", "\nfootprints: {plain: 7000}\n"))
    apply(homelab, tmp_path, "plain", {"vendor": "nvidia"}, config={"contextSize": 4096})
    homelab.kubectl("wait", "--for=condition=Ready", "mdl/plain", f"--timeout={patient(SECONDS):g}s")
    until(lambda: footprint_of(homelab, "plain") == (7000, "Measured"), SECONDS, "its memory is measured")
    said = placed(homelab, "plain")["message"]
    assert said.endswith("7000 MiB as measured)"), said
    headers = json.loads(homelab.kubectl("get", "mdl", "plain", "-o", "jsonpath={.status.cache.headers}"))
    assert (headers["architecture"], headers["quantization"], headers["layers"]) == ("llama", "Q4_1", 30)
    history = homelab.flexinfer("why", "plain").stdout
    assert "7000 MiB" in history
    homelab.kubectl("delete", "mdl", "plain")
    file.write_text(described)


def footprint_of(running: Running, name: str) -> tuple[int, str]:
    """Return the footprint of a Model and its source."""
    placement = placement_of(running, name)
    return placement.get("footprintMB", 0), placement.get("footprintSource", "")


def test_a_foreign_process_keeps_a_model_away_until_it_ends(
    homelab: Running, tmp_path: Path, file: Path
) -> None:
    """It is added to the file, and removed from it, while everything runs."""
    described = file.read_text()
    file.write_text(described.replace("\nforeign: []\n", GAME))
    until(lambda: used(homelab, "workstation") == 15000, SECONDS, "the process is seen")
    assert [holder.kind for holder in cards(homelab, "workstation")[0].holders] == [FOREIGN]
    gpu = {"vendor": "amd", "vramEstimateMB": 12000}
    plan = homelab.flexinfer("plan", "-f", str(a_model(tmp_path, "patient", gpu)), check=False)
    assert plan.returncode == DOES_NOT_FIT, plan.stdout + plan.stderr
    assert "game" in plan.stdout
    apply(homelab, tmp_path, "patient", gpu)
    until(lambda: placed(homelab, "patient").get("reason") == "NoNodeFits", SECONDS, "patient is refused")
    answer = homelab.flexinfer("why", "patient").stdout
    assert "9560 MiB" in answer
    assert "game" in answer
    file.write_text(described)
    assert placement_of(homelab, "patient")["node"] == "workstation"
    homelab.kubectl("delete", "mdl", "patient")
