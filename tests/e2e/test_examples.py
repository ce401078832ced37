"""Every example is applied to the simulated homelab and reaches there what it says of itself.

Its lines `# On <file>: <Model> is <Phase>[, <Reason>]`, or `is <Condition>`, are that claim. Engines are real where this machine has their program (llama.cpp);
hub and registry are on loopback, and what they have is enough to be downloaded, not to be loaded.
"""

import json
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from benchmarks.instance import Instance
from flexinfer.local.supervisor.provisioning import small_model
from tests.instance import until
from tests.integration.prefetcher import hub as hubs
from tests.integration.prefetcher import registry as registries
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "examples").glob("*.yaml")) + sorted((ROOT / "examples" / "local").glob("*.yaml"))
_CLAIM = re.compile(r"^# On (\S+): (\S+) is (\w+)(?:, (\w+))?$", re.MULTILINE)
SECONDS = 180.0
EMPTY = json.dumps({}).encode()
SAFETENSORS = struct.pack("<Q", len(EMPTY)) + EMPTY
"""A file of weights without a tensor."""


class Claim(NamedTuple):
    """What a Model of an example says of itself; an empty reason says nothing of it."""

    where: str
    model: str
    phase: str
    reason: str


def claims(path: Path) -> list[Claim]:
    """Return the claims of an example."""
    return [Claim(*found) for found in _CLAIM.findall(path.read_text())]


def models(path: Path) -> dict[str, dict[str, Any]]:
    """Return the Models of an example by their names; a GPULease has no phase (tests/e2e/test_lease.py has that example)."""
    documents = yaml.safe_load_all(path.read_text())
    return {one["metadata"]["name"]: one for one in documents if one["kind"] == "Model"}


class Homelab:
    """A simulated homelab, and the hub and registry that it downloads from."""

    def __init__(self, instance: Instance, hub: hubs.Hub) -> None:
        self.instance, self.hub = instance, hub

    def fill(self, path: Path) -> None:
        """Offer in the hub what an example's repositories hold: a GGUF file if it names one, else a folder without tensors."""
        names = [one["spec"].get("config", {}).get("ggufFile") for one in models(path).values()]
        gguf = {name: weights().read_bytes() for name in names if name}
        self.hub.files = gguf or {"config.json": b"{}", "model.safetensors": SAFETENSORS}

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of a Model."""
        text = self.instance.kubectl("get", "mdl", name, "-o", "jsonpath={.status}")
        status: dict[str, Any] = json.loads(text or "{}")
        return status

    def reaches(self, claim: Claim) -> bool:
        """Return whether a Model is what is claimed."""
        status = self.status(claim.model)
        conditions = {one["type"] for one in status.get("conditions", ()) if one["status"] == "True"}
        return claim.phase in {status.get("phase"), *conditions} and claim.reason in (
            "",
            status.get("reason"),
        )

    def becomes(self, claim: Claim) -> None:
        """Wait until a Model is what is claimed."""
        what = f"{claim.model} is {claim.phase} {claim.reason}"
        try:
            until(lambda: self.reaches(claim), SECONDS, what)
        except AssertionError as error:
            error.add_note(str(self.status(claim.model)))
            raise


def weights() -> Path:
    """Return a small model."""
    path = small_model()
    if path is None:
        pytest.skip("no small model is installed")
    return path


@pytest.fixture(
    scope="module", params=["examples/simulated/homelab.yaml", "examples/simulated/one-card.yaml"]
)
def homelab(
    request: pytest.FixtureRequest, api: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Homelab]]:
    """Return a simulated homelab by the file that describes it."""
    if api != "local":
        pytest.skip("simulated GPUs need the local API")
    with (
        hubs.served() as hub,
        registries.served() as registry,
        pytest.MonkeyPatch.context() as patch,
    ):
        hub.repository = ""
        registry.add("library/llama3", "8b", {"model": registries.WEIGHTS})
        patch.setenv("HF_ENDPOINT", hub.address)
        patch.setenv("FLEXINFER_OLLAMA_REGISTRY", registry.address)
        patch.setenv("FLEXINFER_PROGRAM_OLLAMA", "no-ollama")  # also where the machine of the test has one
        described = str(ROOT / request.param)
        running = Instance(tmp_path_factory.mktemp("instance"), "--simulate-gpus", described, stub=False)
        try:
            yield request.param, Homelab(running, hub)
        finally:
            running.down()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "examples")))
def test_an_example_says_what_becomes_of_each_of_its_models(path: Path) -> None:
    """On one of the two homelabs."""
    assert sorted(claim.model for claim in claims(path)) == sorted(models(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "examples")))
def test_an_example_reaches_what_it_says(homelab: tuple[str, Homelab], path: Path) -> None:
    """Its Models, one file after the other."""
    where, lab = homelab
    claimed = [claim for claim in claims(path) if claim.where == where]
    if not claimed:
        pytest.skip(f"{path.name} says nothing of {where}")
    lab.fill(path)
    lab.instance.kubectl("apply", "-f", str(path))
    try:
        for claim in claimed:
            lab.becomes(claim)
    finally:
        lab.instance.kubectl("delete", "-f", str(path), "--wait=true", f"--timeout={patient(120):g}s")
