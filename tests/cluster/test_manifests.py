"""A real API server accepts the manifests with strict validation, and Pod Security admits their Pods."""

import json
from pathlib import Path

import msgspec
import pytest

from flexinfer.api.model import Cache, Gpu
from flexinfer.api.reasons import Reason
from flexinfer.launcher.manifests import LaunchSettings, engine_pod, template
from flexinfer.prefetcher.jobs import job, keeping
from flexinfer.prefetcher.plan import KEEP, LIST, PrefetchSettings, plan_of
from tests.builders import a_condition, a_model
from tests.cluster.installed import CREATE, SYSTEM, Kubectl, namespace, text
from tests.manifests import DEPLOY, FOLDERS, ROOT, Object, objects, workloads

GOLDEN = ROOT / "tests" / "unit" / "backends" / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
BINDINGS = sorted((ROOT / "tests" / "unit" / "launcher" / "golden").glob("*.json"))
STRICT = ("apply", "--dry-run=server", "--validate=strict")
LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_passes_strict_validation(prepared: Kubectl, folder: str) -> None:
    """After its Namespace and CRD were applied; CEL expressions are compiled and their cost is checked."""
    applied = prepared.accepted(*STRICT, "-k", str(DEPLOY / folder)).splitlines()
    assert len(applied) == len(objects(folder))


def test_install_yaml_passes_strict_validation(prepared: Kubectl) -> None:
    """`kubectl apply -f deploy/install.yaml`, for installations without kustomize."""
    applied = prepared.accepted(*STRICT, "-f", str(DEPLOY / "install.yaml")).splitlines()
    assert len(applied) == len(objects("base"))


def test_the_policies_of_a_serving_namespace_pass_strict_validation(prepared: Kubectl) -> None:
    """`kubectl apply -k deploy/serving -n NAMESPACE`."""
    applied = prepared.accepted(*STRICT, "-k", str(DEPLOY / "serving"), "-n", "default").splitlines()
    assert len(applied) == len(objects("serving"))


@pytest.fixture(scope="session")
def restricted(prepared: Kubectl) -> str:
    """A namespace that enforces the Pod Security Standard `restricted`."""
    return namespace(prepared, "restricted", labels={LEVEL: "restricted"})


@pytest.fixture(scope="session")
def baseline(prepared: Kubectl) -> str:
    """A namespace that enforces the Pod Security Standard `baseline`."""
    return namespace(prepared, "baseline", labels={LEVEL: "baseline"})


def within(pod: Object, space: str) -> str:
    """Return a Pod as YAML for a namespace, without its ServiceAccount and owner, which do not exist."""
    kept = {key: value for key, value in pod["metadata"].items() if key in ("labels", "annotations")}
    meta = {**kept, "namespace": space, "name": pod["metadata"].get("name", "x")}
    spec = {key: value for key, value in pod["spec"].items() if key != "serviceAccountName"}
    return text({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_engine_is_admitted(prepared: Kubectl, restricted: str, baseline: str, file: Path) -> None:
    """By both levels, except AMD by `restricted`: group ids of its device files differ, so the engine is root."""
    pod = json.loads(file.read_text())
    prepared.accepted(*CREATE, stdin=within(pod, baseline))
    if "-amd" in file.stem:
        complaint = prepared.refused(*CREATE, stdin=within(pod, restricted))
        assert "runAsNonRoot != true" in complaint
        assert "seccomp" not in complaint and "capabilities" not in complaint
    else:
        prepared.accepted(*CREATE, stdin=within(pod, restricted))


@pytest.mark.parametrize("file", BINDINGS, ids=lambda file: file.stem)
def test_the_manifests_of_a_binding_pass_strict_validation(
    prepared: Kubectl, baseline: str, file: Path
) -> None:
    """The Pod of each way in which devices are given, and its ResourceClaim, whose CEL expressions are compiled."""
    pod, *claims = json.loads(file.read_text())
    runtime = pod["spec"].get("runtimeClassName")
    if runtime:
        kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": runtime}}
        prepared.accepted("apply", "-f", "-", stdin=text(kind | {"handler": runtime}))
    prepared.accepted(*CREATE, "--validate=strict", stdin=within(pod, baseline))
    for claim in claims:
        meta = {**claim["metadata"], "namespace": baseline, "ownerReferences": []}
        prepared.accepted(*CREATE, "--validate=strict", stdin=text(claim | {"metadata": meta}))


@pytest.mark.parametrize("cache", ["Memory", "None"])
def test_an_engine_with_an_init_container_is_admitted(prepared: Kubectl, restricted: str, cache: str) -> None:
    """Its init container has the same security context as the engine; Memory has one where no PVC is available."""
    without = a_condition("Cached", "True", Reason.NO_CLAIM)
    model = a_model(source="HF://a/b", config={"ggufFile": "q4.gguf"}, conditions=[without])
    spec = msgspec.structs.replace(model.spec, cache=Cache(strategy=cache))
    model = msgspec.structs.replace(model, spec=spec)
    pod_template = template(model, LaunchSettings(image="image"))
    assert pod_template is not None and pod_template.spec["initContainers"]
    prepared.accepted(*CREATE, stdin=within(engine_pod(model, 1, pod_template), restricted))


@pytest.mark.parametrize("source", ["HF://a/b", "pvc://models/m.gguf", "file:///m.gguf"])
def test_a_job_of_the_prefetcher_is_admitted(prepared: Kubectl, restricted: str, source: str) -> None:
    """A download, a presence check on a PVC, and one in an engine image."""
    model = a_model(source=source, config={"ggufFile": "q4.gguf"} if source.startswith("HF") else {})
    settings = PrefetchSettings(image="image")
    plan = plan_of(model, settings)
    assert plan is not None
    manifest = job(model, plan.with_pvc("pvc-1"), settings)
    prepared.accepted(*CREATE, stdin=within(manifest["spec"]["template"], restricted))


@pytest.mark.parametrize("kind", [LIST, KEEP])
def test_a_job_that_lists_and_one_that_keeps_files_in_memory_are_admitted(
    prepared: Kubectl, restricted: str, kind: str
) -> None:
    """The one has no volume, the other requests memory for the files."""
    model = a_model(source="HF://a/b", config={"ggufFile": "q4.gguf"})
    settings = PrefetchSettings(image="image")
    plan = plan_of(model, settings)
    assert plan is not None
    plan = msgspec.structs.replace(plan.with_pvc("pvc-1"), kind=kind)
    manifest = keeping(model, plan, 2**30, "image") if kind == KEEP else job(model, plan, settings)
    prepared.accepted(*CREATE, stdin=within(manifest["spec"]["template"], restricted))


def test_a_presence_check_in_an_amd_image_is_admitted(prepared: Kubectl, baseline: str) -> None:
    """It runs as the same user as the engine, so `baseline` admits it."""
    model = a_model(source="file:///m.gguf", gpu=Gpu(vendor="amd"))
    plan = plan_of(model, PrefetchSettings())
    assert plan is not None
    manifest = job(model, plan, PrefetchSettings())
    prepared.accepted(*CREATE, stdin=within(manifest["spec"]["template"], baseline))


@pytest.mark.parametrize("name", [name for name, _ in workloads(objects("base"))])
def test_the_pods_of_the_components_are_admitted_by_restricted(
    prepared: Kubectl, restricted: str, name: str
) -> None:
    """All except the agent, which sees the processes of its node."""
    spec = dict(workloads(objects("base")))[name]
    if name == "flexinfer-nats":  # its PVC is created from the template of the StatefulSet
        spec = spec | {"volumes": [*spec["volumes"], {"name": "data", "emptyDir": {}}]}
    pod = within({"metadata": {}, "spec": spec}, restricted)
    if name == "flexinfer-agent":
        complaint = prepared.refused(*CREATE, stdin=pod)
        assert "hostPID=true" in complaint
        assert "unrestricted" not in complaint and "runAsNonRoot" not in complaint
    else:
        prepared.accepted(*CREATE, stdin=pod)


def test_every_object_is_in_one_namespace_or_cluster_scoped() -> None:
    """The namespace is flexinfer-system."""
    for folder in FOLDERS:
        for obj in objects(folder):
            assert obj["metadata"].get("namespace", SYSTEM) == SYSTEM
