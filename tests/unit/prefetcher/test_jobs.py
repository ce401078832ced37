"""The prefetcher's Jobs: exactly what the engine will mount, on its node, and nothing of a GPU."""

import msgspec

from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Cache, Gpu, Model, Placement
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.prefetcher.jobs import claim, job
from flexinfer.prefetcher.plan import Plan, PrefetchSettings, plan
from tests.builders import a_model

TERMS = PrefetchSettings(image="ours", hf_endpoint="http://mirror")
GPU = Gpu(vendor="nvidia", count=1)
PLACED = Placement(node="a", vendor="nvidia", devices=("GPU-1",))


def planned(model: Model) -> Plan:
    """Return the plan of a Model whose claim is there."""
    made = plan(model, "claim-1", TERMS)
    assert made is not None
    return made


def test_a_job_sees_what_the_engine_will_see() -> None:
    """Same volumes, same mount paths, same node, same tolerations; no device."""
    model = a_model(gpu=GPU, placement=PLACED)
    looks = job(model, planned(model), TERMS)["spec"]["template"]["spec"]
    engine = template(model, LaunchSettings())
    assert engine is not None
    for part in ("volumes", "affinity", "tolerations"):
        assert looks[part] == engine.spec[part]
    assert looks["containers"][0]["volumeMounts"] == engine.spec["containers"][0]["volumeMounts"]
    assert GPU_RESOURCES["nvidia"] not in str(looks["containers"])
    assert looks["automountServiceAccountToken"] is False


def test_a_fetch_writes_where_the_engine_reads() -> None:
    """One path, from one function."""
    model = a_model(source="HF://a/b", config={"ggufFile": "q4.gguf", "hfRevision": "v1"})
    container = job(model, planned(model), TERMS)["spec"]["template"]["spec"]["containers"][0]
    engine = template(model, LaunchSettings())
    assert engine is not None
    into = container["args"][container["args"].index("--into") + 1]
    assert f"{into}/q4.gguf" in engine.spec["containers"][0]["args"]
    assert container["args"][container["args"].index("--revision") + 1] == "v1"
    assert {"name": "HF_ENDPOINT", "value": "http://mirror"} in container["env"]


def test_a_file_of_an_image_is_looked_for_with_that_image() -> None:
    """Nothing else can see into it, and no host path is mounted."""
    model = a_model(source="file:///m.gguf")
    looks = job(model, planned(model), TERMS)["spec"]["template"]["spec"]
    assert looks["containers"][0]["image"] == "ghcr.io/ggml-org/llama.cpp:server"
    assert looks["volumes"] == []


def test_the_claim_has_no_owner_so_it_outlives_its_model() -> None:
    """Deleting a Model never deletes its weights."""
    model = a_model(source="HF://a/b")
    cache = Cache(size="7Gi", storage_class="fast")
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))
    made = claim(model, "llama-cache")
    assert "ownerReferences" not in made["metadata"]
    assert made["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "7Gi"}},
        "storageClassName": "fast",
    }


def test_another_claim_is_another_job() -> None:
    """The name holds everything that the Job was made for, and fits a label."""
    model = a_model("m" * 40)
    names = {plan(model, uid, TERMS).name(model) for uid in ("one", "two")}  # type: ignore[union-attr]
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)
