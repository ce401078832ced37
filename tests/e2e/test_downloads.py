"""A Model of a hub on an instance of its own, with nothing but the Model applied: downloaded, verified, served."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.instance import Instance
from flexinfer.local.supervisor.provisioning import small_model
from flexinfer.prefetcher.keep import absent_of
from tests.audit import logs
from tests.instance import until
from tests.integration.prefetcher.hub import Hub, served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
MODEL: dict[str, Any] = {
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


def cached(instance: Instance, name: str = "hub") -> dict[str, str]:
    """Return reason, message and progress of Cached."""
    model = json.loads(instance.kubectl("get", "mdl", name, "-o", "json"))
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
    assert "hub-cache" not in instance.kubectl("get", "pvc", "-o", "name")
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


def test_the_claim_has_the_size_that_its_files_need(instance: Instance) -> None:
    """98 MB, and at least 1 GiB more; it was created once the hub had said how large they are, and the Job that asked is gone."""
    size = instance.kubectl("get", "pvc", "hub-cache", "-o", "jsonpath={.spec.resources.requests.storage}")
    assert size == "2Gi"
    assert "hub-list-" not in instance.kubectl("get", "jobs", "-o", "name")


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


def test_strategy_memory_keeps_the_files_in_the_page_cache(instance: Instance) -> None:
    """On the same PVC, without a download; files that the kernel dropped are read again; the Job goes with the strategy."""
    memory = {"spec": {"cache": {"strategy": "Memory"}}}
    instance.kubectl("patch", "mdl", "hub", "--type=merge", "-p", json.dumps(memory))
    until(
        lambda: "in memory: kept on node" in cached(instance)["message"], 60, "the files are kept in memory"
    )
    [job] = [name for name in instance.kubectl("get", "jobs", "-o", "name").split() if "hub-keep-" in name]
    size = (98 * 10**6 // 2**20, 98 * 10**6 // 2**20 + 128)
    path = "jsonpath={.spec.template.spec.containers[0].resources.requests.memory}"
    assert size[0] < int(instance.kubectl("get", job, "-o", path).removesuffix("Mi")) < size[1]
    weights = next((instance.folder / "state").rglob("hub/*/smollm2.gguf"))
    assert absent_of(weights) == 0
    instance.kubectl("patch", "mdl", "hub", "--type=merge", "-p", '{"spec": {"cache": null}}')
    until(lambda: "hub-keep-" not in instance.kubectl("get", "jobs", "-o", "name"), 60, "the Job is gone")
    until(lambda: "in memory" not in cached(instance)["message"], 60, "it is not said any more")


def test_what_a_provisioner_wrote_on_a_claim_is_the_reason(instance: Instance) -> None:
    """Within seconds, in its own words, where its StorageClass makes no volume."""
    about = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "name": "refused-cache",
        "namespace": "default",
    }
    storage = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "full"}}
    model = MODEL | {
        "metadata": {"name": "refused"},
        "spec": {**MODEL["spec"], "cache": {"storageClass": "full", "size": "1Gi"}},
    }
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(storage | {"provisioner": "example.com/full"}))
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(model))
    instance.until("refused", 'jsonpath={.status.conditions[?(@.type=="Cached")].reason}=Fetching', 60)
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "refused-cache.1"},
        "involvedObject": about
        | {"uid": instance.kubectl("get", "pvc", "refused-cache", "-o", "jsonpath={.metadata.uid}")},
        "type": "Warning",
        "reason": "ProvisioningFailed",
        "message": "the pool is full",
        "lastTimestamp": "2026-11-24T10:00:00Z",
    }
    instance.kubectl("apply", "-f", "-", stdin=json.dumps(event))
    instance.until("refused", 'jsonpath={.status.conditions[?(@.type=="Cached")].reason}=ClaimPending', 15)
    assert (
        "makes no volume for it: ProvisioningFailed: the pool is full. Remedy: "
        in cached(instance, "refused")["message"]
    )
    instance.kubectl("delete", "mdl", "refused", f"--timeout={patient(60):g}s")


def test_without_a_default_storage_class_memory_needs_no_claim(instance: Instance, hub: Hub) -> None:
    """The engine's Pod downloads to a volume in memory, and the condition says that every start does."""
    default = "storageclass.kubernetes.io/is-default-class"
    instance.kubectl("annotate", "sc", "flexinfer-local", f"{default}=false", "--overwrite")
    spec = {**MODEL["spec"], "cache": {"strategy": "Memory"}}
    instance.kubectl(
        "apply", "-f", "-", stdin=json.dumps(MODEL | {"metadata": {"name": "bare"}, "spec": spec})
    )
    instance.until("bare", "condition=Ready", 180)
    assert cached(instance, "bare")["reason"] == "NoClaim"
    assert "downloaded to memory at every start" in cached(instance, "bare")["message"]
    assert "bare-cache" not in instance.kubectl("get", "pvc", "-o", "name")
    instance.kubectl("delete", "mdl", "bare", f"--timeout={patient(60):g}s")
    instance.kubectl("annotate", "sc", "flexinfer-local", f"{default}=true", "--overwrite")


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
