"""A Model of a hub on an instance of its own, with nothing but the Model applied: downloaded, verified, served."""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from benchmarks.instance import Instance
from flexinfer.local.supervisor.provisioning import small_model
from tests.audit import logs
from tests.instance import until
from tests.integration.prefetcher.hub import Hub, served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
MODEL = {
    "apiVersion": "ai.flexinfer/v1alpha2",
    "kind": "Model",
    "metadata": {"name": "hub"},
    "spec": {"backend": "llamacpp", "source": "HF://org/tiny", "config": {"ggufFile": "smollm2.gguf"}},
}
GIB = 2**30


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    """Serve a hub that holds the small model."""
    path = small_model()
    assert path is not None
    with served() as running:
        running.files = {"smollm2.gguf": path.read_bytes()}
        yield running


@pytest.fixture(scope="module")
def instance(
    tmp_path_factory: pytest.TempPathFactory, api: str, hub: Hub, monkeypatch_module: pytest.MonkeyPatch
) -> Iterator[Instance]:
    """Return an instance whose downloads come from that hub."""
    monkeypatch_module.setenv("HF_ENDPOINT", hub.address)
    running = Instance(tmp_path_factory.mktemp("instance"), "--separate", *logs.options(api), stub=False)
    try:
        yield running
    finally:
        running.down()
        logs.keep(running.folder / "state")


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    """Set variables for as long as the module."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def cached(instance: Instance) -> dict[str, str]:
    """Return reason, message and progress of Cached."""
    model = json.loads(instance.kubectl("get", "mdl", "hub", "-o", "json"))
    conditions = {c["type"]: c for c in model["status"]["conditions"]}
    return {
        "reason": conditions["Cached"]["reason"],
        "message": conditions["Cached"]["message"],
        "progress": model["status"]["cache"].get("progress", ""),
    }


def test_a_gated_model_says_so_within_seconds_and_recovers_by_itself(instance: Instance, hub: Hub) -> None:
    """The whole way: StorageClass, PVC, Job, reason, token, retry, progress, engine; the token is in no object (X10)."""
    hub.gated, hub.token = True, "hf_canary"
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(MODEL))
    instance.until("hub", 'jsonpath={.status.conditions[?(@.type=="Cached")].reason}=GatedRepository', 60)
    assert "Secret hf-token" in cached(instance)["message"]
    assert "flexinfer-local (default)" in instance.kubectl("get", "sc")
    hub.hold_after(20 * 2**20)
    instance.kubectl("create", "secret", "generic", "hf-token", "--from-literal=HF_TOKEN=hf_canary")
    instance.until("hub", 'jsonpath={.status.conditions[?(@.type=="Cached")].reason}=Fetching', 120)
    until(lambda: "% of 98 MB" in cached(instance)["progress"], 60, "the progress is shown")
    hub.release()
    instance.until("hub", "condition=Ready", 180)
    assert cached(instance)["progress"] == "98 MB"
    assert cached(instance)["reason"] == "Cached"
    assert (
        instance.kubectl("get", "pvc", "hub-cache", "-o", "jsonpath={.spec.storageClassName}")
        == "flexinfer-local"
    )


def test_the_token_is_in_no_object(instance: Instance) -> None:
    """X10: nor in an Event."""
    assert "hf_canary" not in instance.kubectl("get", "mdl,pod,job,events", "-o", "yaml")


def test_the_figures_of_the_weights_are_in_the_status(instance: Instance) -> None:
    """What the placer estimates the memory from."""
    model = json.loads(instance.kubectl("get", "mdl", "hub", "-o", "json"))
    headers = model["status"]["cache"]["headers"]
    assert (headers["format"], headers["architecture"], headers["layers"]) == ("gguf", "llama", 30)


def test_a_model_that_is_made_again_reuses_its_weights(instance: Instance, hub: Hub) -> None:
    """The PVC outlives the Model, and the manifest says that it is complete: the hub is not asked."""
    instance.kubectl("delete", "mdl", "hub", f"--timeout={patient(60):g}s")
    hub.requests.clear()
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(MODEL))
    instance.until("hub", "condition=Ready", 180)
    assert hub.requests == []


def test_weights_that_were_changed_afterwards_are_named(instance: Instance) -> None:
    """`flexinfer verify` reads them again, by a Job of its own."""
    program = [
        sys.executable,
        "-m",
        "flexinfer.cli",
        "verify",
        "hub",
        "--state",
        str(instance.folder / "state"),
    ]
    done = subprocess.run(program, capture_output=True, text=True, timeout=patient(120), check=False)
    assert (done.returncode, "98 MB are what was downloaded" in done.stdout) == (0, True), done.stderr
    volumes = set((instance.folder / "state").rglob("hub/*/smollm2.gguf"))
    assert len({path.stat().st_ino for path in volumes}) == 1, volumes
    with volumes.pop().open("r+b") as file:
        file.seek(50 * 2**20)
        file.write(b"another")
    done = subprocess.run(program, capture_output=True, text=True, timeout=patient(120), check=False)
    assert (done.returncode, "smollm2.gguf (another sha256)" in done.stdout) == (1, True), done.stderr
