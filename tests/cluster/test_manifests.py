"""A real API server takes the manifests, as strictly as it can, and Pod Security lets in what they make."""

import json
from pathlib import Path

import msgspec
import pytest

from flexinfer.api.model import Cache, Gpu
from flexinfer.launcher.manifests import LaunchSettings, engine_pod, template
from flexinfer.prefetcher.jobs import job
from flexinfer.prefetcher.plan import PrefetchSettings, plan_of
from tests.builders import a_model
from tests.cluster.installed import CREATE, SYSTEM, Kubectl, namespace, text
from tests.manifests import DEPLOY, FOLDERS, ROOT, Object, objects, workloads

GOLDEN = ROOT / "tests" / "unit" / "backends" / "golden"
FILES = sorted(GOLDEN.glob("*.json"))
STRICT = ("apply", "--dry-run=server", "--validate=strict")
LEVEL = "pod-security.kubernetes.io/enforce"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_is_taken_to_the_last_field(prepared: Kubectl, folder: str) -> None:
    """After its Namespace and definitions were really applied; CEL is compiled and its cost counted."""
    told = prepared.taken(*STRICT, "-k", str(DEPLOY / folder)).splitlines()
    assert len(told) == len(objects(folder))


def test_the_file_that_is_one_is_taken(prepared: Kubectl) -> None:
    """`kubectl apply -f deploy/install.yaml`, for those without kustomize."""
    told = prepared.taken(*STRICT, "-f", str(DEPLOY / "install.yaml")).splitlines()
    assert len(told) == len(objects("base"))


def test_a_namespace_is_offered_its_policies(prepared: Kubectl) -> None:
    """`kubectl apply -k deploy/serving -n NAMESPACE`."""
    told = prepared.taken(*STRICT, "-k", str(DEPLOY / "serving"), "-n", "default").splitlines()
    assert len(told) == len(objects("serving"))


@pytest.fixture(scope="session")
def restricted(prepared: Kubectl) -> str:
    """A namespace that lets in nothing but what is hardened all over."""
    return namespace(prepared, "restricted", labels={LEVEL: "restricted"})


@pytest.fixture(scope="session")
def baseline(prepared: Kubectl) -> str:
    """A namespace that lets in root, without capabilities of its own."""
    return namespace(prepared, "baseline", labels={LEVEL: "baseline"})


def within(pod: Object, space: str) -> str:
    """Return a Pod as it would be in a namespace, without an owner, since there is none."""
    kept = {key: value for key, value in pod["metadata"].items() if key in ("labels", "annotations")}
    meta = {**kept, "namespace": space, "name": pod["metadata"].get("name", "x")}
    spec = {key: value for key, value in pod["spec"].items() if key != "serviceAccountName"}
    return text({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_an_engine_is_let_in(prepared: Kubectl, restricted: str, baseline: str, file: Path) -> None:
    """Everywhere, but on AMD's cards: their device files belong to groups whose numbers differ, so that engine is root."""
    pod = json.loads(file.read_text())
    prepared.taken(*CREATE, stdin=within(pod, baseline))
    if "-amd" in file.stem:
        complaint = prepared.refused(*CREATE, stdin=within(pod, restricted))
        assert "runAsNonRoot != true" in complaint
        assert "seccomp" not in complaint and "capabilities" not in complaint
    else:
        prepared.taken(*CREATE, stdin=within(pod, restricted))


@pytest.mark.parametrize("cache", ["Memory", "None"])
def test_an_engine_that_fetches_first_is_let_in(prepared: Kubectl, restricted: str, cache: str) -> None:
    """Its first container is as hardened as its second."""
    model = a_model(source="HF://a/b", config={"ggufFile": "q4.gguf"})
    spec = msgspec.structs.replace(model.spec, cache=Cache(strategy=cache))
    model = msgspec.structs.replace(model, spec=spec)
    made = template(model, LaunchSettings(image="ours"))
    assert made is not None and made.spec["initContainers"]
    prepared.taken(*CREATE, stdin=within(engine_pod(model, 1, made), restricted))


@pytest.mark.parametrize("source", ["HF://a/b", "pvc://models/m.gguf", "file:///m.gguf"])
def test_a_job_of_the_prefetcher_is_let_in(prepared: Kubectl, restricted: str, source: str) -> None:
    """Fetching, looking on a claim, and looking into an engine's image."""
    model = a_model(source=source, config={"ggufFile": "q4.gguf"} if source.startswith("HF") else {})
    settings = PrefetchSettings(image="ours")
    plan = plan_of(model, settings)
    assert plan is not None
    manifest = job(model, plan.with_pvc("pvc-1"), settings)
    prepared.taken(*CREATE, stdin=within(manifest["spec"]["template"], restricted))


def test_a_look_into_an_image_on_amd_sees_what_its_engine_sees(prepared: Kubectl, baseline: str) -> None:
    """Same user, same level."""
    model = a_model(source="file:///m.gguf", gpu=Gpu(vendor="amd"))
    plan = plan_of(model, PrefetchSettings())
    assert plan is not None
    manifest = job(model, plan, PrefetchSettings())
    prepared.taken(*CREATE, stdin=within(manifest["spec"]["template"], baseline))


@pytest.mark.parametrize("name", [name for name, _ in workloads(objects("base"))])
def test_our_own_pods_are_let_in_where_nothing_is_but_what_is_hardened(
    prepared: Kubectl, restricted: str, name: str
) -> None:
    """All but the agent, which sees the processes of its node."""
    spec = dict(workloads(objects("base")))[name]
    if name == "flexinfer-nats":  # its claim is made from the StatefulSet's template
        spec = spec | {"volumes": [*spec["volumes"], {"name": "data", "emptyDir": {}}]}
    pod = within({"metadata": {}, "spec": spec}, restricted)
    if name == "flexinfer-agent":
        complaint = prepared.refused(*CREATE, stdin=pod)
        assert "hostPID=true" in complaint
        assert "unrestricted" not in complaint and "runAsNonRoot" not in complaint
    else:
        prepared.taken(*CREATE, stdin=pod)


def test_every_object_of_ours_is_in_one_namespace() -> None:
    """Or in none."""
    for folder in FOLDERS:
        for obj in objects(folder):
            assert obj["metadata"].get("namespace", SYSTEM) == SYSTEM
