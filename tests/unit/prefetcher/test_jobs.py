"""The prefetcher's Jobs: the mounts of the engine, on its node, without a GPU."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.labels import FETCHES_LABEL, GPU_RESOURCES
from flexinfer.api.model import Cache, Gpu, Model
from flexinfer.api.placement import Placement, placed_devices
from flexinfer.api.podspec import SecretReference
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.prefetcher.jobs import job, pvc, verification
from flexinfer.prefetcher.plan import Plan, PrefetchSettings, plan_of
from flexinfer.sources import locate
from flexinfer.sources.base import Files
from flexinfer.sources.pod import Hub, PodDefaults, fetch_container
from localkube.kubelet.variable_expansion import expand
from tests.builders import a_model

SETTINGS = PrefetchSettings(image="ours", hub=Hub(endpoint="http://mirror", proxy="http://proxy:3128"))
GPU = Gpu(vendor="nvidia", count=1)
PLACED = Placement(node="a", vendor="nvidia", devices=placed_devices(["GPU-1"]))


def planned(model: Model, uid: str = "pvc-1") -> Plan:
    """Return the plan of a Model whose PVC exists."""
    plan = plan_of(model, SETTINGS)
    assert plan is not None
    return plan.with_pvc(uid)


def test_a_job_has_the_mounts_and_the_node_of_the_engine() -> None:
    """Same volumes, mount paths, node and tolerations; no device."""
    model = a_model(gpu=GPU, placement=PLACED)
    pod = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]
    engine = template(model, LaunchSettings())
    assert engine is not None
    for part in ("volumes", "affinity", "tolerations"):
        assert pod[part] == engine.spec[part]
    assert pod["containers"][0]["volumeMounts"] == engine.spec["containers"][0]["volumeMounts"]
    assert GPU_RESOURCES["nvidia"] not in str(pod["containers"])
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize(("source", "fetches"), [("HF://a/b", True), ("pvc://models/m.gguf", False)])
def test_only_the_pods_of_a_download_may_reach_the_hub(source: str, *, fetches: bool) -> None:
    """NetworkPolicies select them by the label."""
    model = a_model(source=source, config={"ggufFile": "q4.gguf"} if fetches else {})
    labels = job(model, planned(model), SETTINGS)["spec"]["template"]["metadata"]["labels"]
    assert (FETCHES_LABEL in labels) == fetches


@pytest.mark.parametrize(("source", "hours"), [("HF://a/b", 24), ("pvc://models/m.gguf", 1 / 12)])
def test_a_download_has_a_day_and_a_check_five_minutes(source: str, hours: float) -> None:
    """A check that hangs keeps its slot no longer, and a large download is not cut off."""
    model = a_model(source=source)
    assert job(model, planned(model), SETTINGS)["spec"]["activeDeadlineSeconds"] == hours * 3600


def test_a_download_writes_where_the_engine_reads() -> None:
    """The path comes from one function."""
    model = a_model(source="HF://a/b", config={"ggufFile": "q4.gguf", "hfRevision": "v1"})
    container = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]["containers"][0]
    engine = template(model, LaunchSettings())
    assert engine is not None
    into = container["args"][container["args"].index("--into") + 1]
    assert f"{into}/q4.gguf" in engine.spec["containers"][0]["args"]
    selection = msgspec.json.decode(container["args"][container["args"].index("--files") + 1], type=Files)
    assert (selection.names, selection.revision) == (("q4.gguf",), "v1")
    assert {"name": "HF_ENDPOINT", "value": "http://mirror"} in container["env"]


def test_a_path_in_an_image_is_checked_with_that_image() -> None:
    """No other process can read it, and no host path is mounted."""
    model = a_model(source="file:///m.gguf")
    pod = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "ghcr.io/ggml-org/llama.cpp:server"
    assert pod["volumes"] == []


@pytest.mark.parametrize("source", ["HF://a/b", "pvc://models/m.gguf", "file:///m.gguf"])
def test_a_job_is_pulled_and_run_as_the_engine_is(source: str) -> None:
    """With the pull secrets and the RuntimeClass of the spec, else those of the settings."""
    settings = msgspec.structs.replace(
        SETTINGS, pods=PodDefaults(pull_secrets=("house",), runtime_class="kata")
    )
    of_the_user: dict[str, Any] = {"pull_secrets": ("mine",), "runtime_class": "nvidia"}
    changes: dict[str, Any]
    for changes, secret, runtime in (({}, "house", "kata"), (of_the_user, "mine", "nvidia")):
        config = {"ggufFile": "q4.gguf"} if source.startswith("HF") else {}
        model = a_model(**(changes | {"source": source, "config": config}))
        plan = plan_of(model, settings)
        engine = template(model, LaunchSettings(pods=settings.pods))
        assert plan is not None and engine is not None
        pod = job(model, plan.with_pvc("pvc-1"), settings)["spec"]["template"]["spec"]
        for spec in (pod, engine.spec):
            assert spec["imagePullSecrets"] == [{"name": secret}]
            assert spec["runtimeClassName"] == runtime


def test_a_verification_is_pulled_with_the_secrets_of_the_spec() -> None:
    """It runs on the node of the download, whose image is there."""
    model = a_model(source="HF://a/b", pull_secrets=("mine",))
    location = locate(model)
    assert location is not None
    pod = verification(model, location, "ours")["spec"]["template"]["spec"]
    assert pod["imagePullSecrets"] == [{"name": "mine"}]


def test_pull_secrets_and_runtime_class_change_no_result() -> None:
    """Weights that were verified stay so: the Job has the same name, and only one that has not begun is created again."""
    plain, other = (planned(a_model(pull_secrets=secrets)) for secrets in ((), ("mine",)))
    assert plain.digest == other.digest
    assert plain.fingerprint.startswith(plain.digest)
    assert plain.fingerprint != other.fingerprint


def test_the_pvc_has_no_owner_so_that_it_outlives_its_model() -> None:
    """Deleting a Model never deletes its weights."""
    model = a_model(source="HF://a/b")
    cache = Cache(size="7Gi", storage_class="fast")
    model = msgspec.structs.replace(model, spec=msgspec.structs.replace(model.spec, cache=cache))
    manifest = pvc(model, "llama-cache")
    assert "ownerReferences" not in manifest["metadata"]
    assert manifest["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "7Gi"}},
        "storageClassName": "fast",
    }


def test_a_pvc_for_every_node_is_asked_for_where_the_spec_says_that_the_class_has_it() -> None:
    """No API tells which access modes a StorageClass offers."""
    model = a_model(source="HF://a/b")
    model = msgspec.structs.replace(
        model, spec=msgspec.structs.replace(model.spec, cache=Cache(access_mode="ReadWriteMany"))
    )
    assert pvc(model, "llama-cache")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_another_pvc_is_another_job() -> None:
    """The name has a digest of all inputs, and is short enough for a label."""
    model = a_model("m" * 40)
    names = {planned(model, uid).job_name(model) for uid in ("one", "two")}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_a_download_reaches_the_hub_as_the_settings_say() -> None:
    """A mirror, and the proxy of a network that has no other way out; what is empty stays the program's default."""
    model = a_model(source="HF://a/b")
    [container] = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["HF_ENDPOINT"] == "http://mirror"
    assert variables["HTTPS_PROXY"] == variables["HTTP_PROXY"] == "http://proxy:3128"
    assert "NO_PROXY" not in variables


def test_a_download_trusts_the_authorities_of_the_settings() -> None:
    """A ConfigMap of the Model's namespace; it may be missing, which the program says."""
    model = a_model(source="HF://a/b")
    settings = PrefetchSettings(image="ours", hub=Hub(authorities="company-ca"))
    spec = job(model, planned(model), settings)["spec"]["template"]["spec"]
    [container] = spec["containers"]
    [mount] = [m for m in container["volumeMounts"] if m["name"] == "authorities"]
    [volume] = [v for v in spec["volumes"] if v["name"] == "authorities"]
    assert (volume["configMap"]["name"], volume["configMap"]["optional"]) == ("company-ca", True)
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert variables["SSL_CERT_FILE"] == f"{mount['mountPath']}/ca.crt"


def test_the_token_of_the_hub_is_a_file_and_never_a_variable() -> None:
    """A variable is in every dump of the process; the engine never sees either (reliability X10)."""
    model = a_model(source="HF://a/b", config={"ggufFile": "x.gguf"})
    spec = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]
    assert [v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v] == ["hf-token"]
    assert "secretKeyRef" not in str(spec)
    engine = template(model, LaunchSettings())
    assert engine is not None
    assert "hf-token" not in str(engine.spec)


@pytest.mark.parametrize(
    ("source", "named", "mounted"),
    [
        ("HF://a/b", "", "hf-token"),
        ("HF://a/b", "mine", "mine"),
        ("ollama://x", "", ""),
        ("ollama://x", "mine", "mine"),
    ],
)
def test_the_secret_of_the_spec_is_mounted_in_place_of_the_default(
    source: str, named: str, mounted: str
) -> None:
    """X10: as files; only what is named must exist, and the hub's token is never shown to a registry."""
    model = a_model(source=source)
    reference = SecretReference(name=named) if named else None
    spec = msgspec.structs.replace(model.spec, source_secret_ref=reference)
    model = msgspec.structs.replace(model, spec=spec)
    template_ = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]
    secrets = [v["secret"] for v in template_["volumes"] if "secret" in v]
    arguments = template_["containers"][0]["args"]
    assert [(s["secretName"], s["optional"]) for s in secrets] == ([(mounted, True)] if mounted else [])
    assert ("--secret-required" in arguments, "--secret" in arguments) == (bool(named), bool(mounted))


def test_a_quota_admits_a_download() -> None:
    """It has limits; what it writes to memory, where no PVC is available, would count against one of memory."""
    for strategy, reason, limits in (
        ("SharedPVC", "Cached", {"cpu", "memory"}),
        ("Memory", "Cached", {"cpu", "memory"}),
        ("Memory", "NoClaim", {"cpu"}),
        ("None", "PulledByEngine", {"cpu", "memory"}),
    ):
        model = a_model(source="HF://a/b", conditions=(("Cached", "True", reason),))
        spec = msgspec.structs.replace(model.spec, cache=Cache(strategy=strategy))
        model = msgspec.structs.replace(model, spec=spec)
        location = locate(model)
        assert location is not None
        container = fetch_container(model, location, "ours", Hub())
        assert set(container["resources"]["limits"]) == limits


@pytest.mark.parametrize(
    ("source", "config", "arguments"),
    [
        ("pvc://c/m.gguf", {"mmproj": "mm.gguf"}, ["/models/m.gguf", "/models/m.gguf", "/models/mm.gguf"]),
        (
            "pvc://c/a",
            {"ggufFile": "m.gguf", "mmproj": "/x.gguf"},
            ["/models/a", "/models/a/m.gguf", "/x.gguf"],
        ),
        (
            "pvc://c/m-00002-of-00002.gguf",
            {},
            [
                "/models/m-00002-of-00002.gguf",
                "/models/m-00001-of-00002.gguf",
                "/models/m-00002-of-00002.gguf",
            ],
        ),
        ("pvc://c", {}, ["/models"]),
    ],
)
def test_a_check_looks_for_every_file_that_the_engine_needs(
    source: str, config: dict[str, Any], arguments: list[str]
) -> None:
    """The named ones, and all parts of a split file."""
    model = a_model(source=source, config=config)
    [container] = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["--inside=/models", *arguments]


@pytest.mark.parametrize("source", ["pvc://c/deep/m.gguf", "file:///m.gguf", "HF://a/b", "ollama://x"])
def test_a_volume_is_never_a_path_of_the_host_nor_a_part_of_another(source: str) -> None:
    """No hostPath, no subPath, no token of a service account; what is only read is mounted read-only (reliability X13) (reliability X14)."""
    backend = "ollama" if source.startswith("ollama") else "llamacpp"
    config = {"ggufFile": "m.gguf"} if source.startswith("HF") else {}
    model = a_model(source=source, backend=backend, config=config)
    engine = template(model, LaunchSettings())
    assert engine is not None
    for spec in (engine.spec, job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]):
        assert {key for volume in spec["volumes"] for key in volume} <= {
            "name",
            "persistentVolumeClaim",
            "secret",
            "emptyDir",
        }
        assert spec["automountServiceAccountToken"] is False
        assert "subPath" not in str(spec)
    assert all(
        mount.get("readOnly")
        for mount in engine.spec["containers"][0]["volumeMounts"]
        if mount["name"] == "weights"
    )


def test_a_volume_of_the_spec_is_checked_without_being_written() -> None:
    """A PVC of the user's own (reliability X13)."""
    model = a_model(source="pvc://c/m.gguf")
    [container] = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]["containers"]
    assert [mount["readOnly"] for mount in container["volumeMounts"]] == [True]


@pytest.mark.parametrize(
    ("source", "config", "words"),
    [
        ("pvc://claim/$(HOME)/m.gguf", {}, "/models/$(HOME)/m.gguf"),
        ("file:///w/$(POD_IP)", {"ggufFile": "$$.gguf"}, "/w/$(POD_IP)"),
        ("HF://org/m", {"ggufFile": "$(HF_TOKEN_PATH).gguf"}, "$(HF_TOKEN_PATH).gguf"),
    ],
)
def test_what_a_user_writes_is_inert_in_a_job(source: str, config: dict[str, Any], words: str) -> None:
    """The kubelet replaces nothing in it: the Job looks for what the engine will look for."""
    model = a_model("m", source=source, config=config, placement=PLACED)
    container = job(model, planned(model), SETTINGS)["spec"]["template"]["spec"]["containers"][0]
    values = {"POD_IP": "10.0.0.1", "HOME": "/root", "HF_TOKEN_PATH": "/token"}
    assert any(words in expand(argument, values) for argument in container["args"])
