"""`flexinfer check`: what a Model needs and a cluster lacks, each with what fixes it."""

import argparse
from typing import Any

import msgspec
import pytest

from flexinfer.api.groupversion import API_VERSION
from flexinfer.api.installation import SYSTEM_NAMESPACE
from flexinfer.api.kinds import RESOURCE_SLICES, STORAGE_CLASSES, Kind
from flexinfer.api.kube import Claim, ClaimStatus
from flexinfer.api.metadata import Metadata
from flexinfer.api.model import Gpu
from flexinfer.api.reasons import Reason
from flexinfer.cli.check import table
from flexinfer.cli.preflight import checks, objects
from flexinfer.cli.preflight.view import (
    MISSING,
    OK,
    UNKNOWN,
    WARNING,
    Finding,
    ProcessState,
    View,
    pull_secrets,
)
from tests.builders import a_condition, a_model
from tests.definitions import the_crd

SERVICES = "registry.example/flexinfer/services:1"
DEFAULT = {"metadata": {"name": "fast", "annotations": {checks.DEFAULT_CLASS: "true"}}}


def of(kind: Kind[Any], *bodies: dict[str, Any]) -> tuple[Any, ...]:
    """Return objects of a kind, as they are read from the API."""
    return tuple(msgspec.convert(body, kind.type) for body in bodies)


def definitions() -> tuple[Any, ...]:
    """Return the definitions of this release, all of them established."""
    status = {"conditions": [{"type": "Established", "status": "True"}]}
    others = [{"metadata": {"name": name}, "status": status} for name in checks.DEFINITIONS[1:]]
    crd = msgspec.json.decode(msgspec.json.encode(the_crd() | {"status": status}), type=objects.Definition)
    return (crd, *of(objects.DEFINITIONS, *others))


def a_workload(name: str = "flexinfer-proxy", ready: int = 1, **spec: Any) -> Any:
    """Return a Deployment whose container has the settings."""
    container = {
        "name": "one",
        "image": SERVICES,
        "envFrom": [{"configMapRef": {"name": "flexinfer-settings-1"}}],
    }
    template = {"spec": {"containers": [container | spec.pop("container", {})]} | spec}
    body = {"metadata": {"name": name}, "spec": {"template": template}, "status": {"readyReplicas": ready}}
    return msgspec.convert(body, objects.Workload)


def a_node(name: str = "box", vendor: str = "", **status: Any) -> Any:
    """Return a node, whose agent reports GPUs of a vendor."""
    labels = {"flexinfer.ai/gpu.vendor": vendor} if vendor else {}
    return msgspec.convert({"metadata": {"name": name, "labels": labels}, "status": status}, objects.Node)


def a_pod(name: str, reason: str, message: str = "", image: str = SERVICES) -> Any:
    """Return a Pod of a component that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    body = {
        "metadata": {"name": name, "namespace": SYSTEM_NAMESPACE},
        "spec": {"containers": [{"name": "one", "image": image}]},
        "status": {"containerStatuses": [{"name": "one", "state": state}]},
    }
    return msgspec.convert(body, objects.Pod)


def settings(**data: str) -> tuple[Any, ...]:
    """Return the settings of the components, and those that nothing uses any more."""
    old = {"metadata": {"name": "flexinfer-settings-0"}, "data": {"FLEXINFER_PULL_SECRETS": "old"}}
    return of(objects.CONFIG_MAPS, {"metadata": {"name": "flexinfer-settings-1"}, "data": data}, old)


def a_view(**changes: Any) -> View:
    """Return a cluster in which everything is there."""
    claim = Claim(metadata=Metadata(name="data-flexinfer-nats-0"), status=ClaimStatus(phase="Bound"))
    whole: dict[str, Any] = {
        "definitions": definitions(),
        "workloads": (a_workload(),),
        "storage_classes": of(STORAGE_CLASSES, DEFAULT),
        "claims": (claim,),
        "nodes": (a_node(vendor="nvidia", allocatable={"nvidia.com/gpu": "2"}),),
        "config_maps": settings(),
    }
    return View(**(whole | changes))


def said(check: str, **changes: Any) -> list[Finding]:
    """Return what one check says."""
    return [finding for finding in checks.findings(a_view(**changes)) if finding.check == check]


def only(check: str, **changes: Any) -> Finding:
    """Return the one thing that a check says."""
    (finding,) = said(check, **changes)
    return finding


def test_nothing_is_missing_where_everything_is_there() -> None:
    """And each finding is about another thing."""
    found = checks.findings(a_view())
    assert {finding.status for finding in found} == {OK}
    assert not checks.failed(found)
    assert [finding.check for finding in found] == ["crds", "rights", "components", "images", "storage", "nats", "gpus"]  # fmt: skip


CASES: list[Any] = [
    pytest.param("crds", {"definitions": ()}, "models.ai.flexinfer", "kubectl apply -f crds/", id="no CRD"),
    pytest.param("crds", {"definitions": of(objects.DEFINITIONS, *({"metadata": {"name": n}} for n in checks.DEFINITIONS))}, "not established", "describe crd", id="a CRD that is not served"),
    pytest.param("rights", {"rights": ["create", "patch"]}, "create, patch Models in namespace default", "bind a role", id="no rights"),
    pytest.param("components", {"workloads": ()}, "not installed", "kubectl apply -k deploy/", id="not installed"),
    pytest.param("components", {"workloads": (a_workload(ready=0),), "pods": (a_pod("flexinfer-proxy-x", "CreateContainerConfigError"),)}, "flexinfer-proxy 0/1 (CreateContainerConfigError)", "get pods", id="not ready"),
    pytest.param("storage", {"storage_classes": ()}, "no StorageClass", "install a provisioner", id="no class"),
    pytest.param("storage", {"storage_classes": of(STORAGE_CLASSES, {"metadata": {"name": "nfs"}})}, "there are nfs", "kubectl annotate sc nfs", id="no default class"),
    pytest.param("nats", {"claims": (Claim(metadata=Metadata(name="data-flexinfer-nats-0")),)}, "data-flexinfer-nats-0 is Pending", "describe pvc", id="the volume of NATS"),
    pytest.param("nats", {"claims": ()}, "no PVC data-flexinfer-nats-0", "describe statefulset", id="no volume of NATS"),
    pytest.param("gpus", {"nodes": (a_node(vendor="nvidia", allocatable={"nvidia.com/gpu": 0}),)}, "nothing gives them to Pods", "FLEXINFER_RUNTIME_CLASS_NVIDIA", id="no means to the GPUs"),
    pytest.param("gpus", {"nodes": (a_node(),), "models": (a_model(gpu=Gpu(vendor="auto")),)}, "default/llama", "find-a-gpu.md", id="no GPU for a Model"),
    pytest.param("pull-secrets", {"secrets": {("default", "house"): False}}, "Secret house is missing in namespace default", "kubectl create secret docker-registry house -n default", id="no pull Secret"),
]  # fmt: skip


@pytest.mark.parametrize(("check", "changes", "says", "remedy"), CASES)
def test_what_is_missing_is_named_with_what_mends_it(
    check: str, changes: dict[str, Any], says: str, remedy: str
) -> None:
    """And the exit status is 1."""
    finding = only(check, **changes)
    assert (finding.status, says in finding.message, remedy in finding.remedy) == (MISSING, True, True), finding  # fmt: skip
    assert checks.failed(checks.findings(a_view(**changes)))


def test_an_older_crd_is_named_with_the_fields_that_it_lacks() -> None:
    """Helm upgrades no CRD: a field would be dropped without a word."""
    crd, *others = definitions()
    version = crd.spec.versions[0]
    spec = msgspec.json.decode(version.schema.open_api_v3_schema.properties["spec"])
    del spec["properties"]["runtimeClassName"]
    raw = {"name": API_VERSION.partition("/")[2], "schema": {"openAPIV3Schema": {"properties": {"spec": spec}}}}  # fmt: skip
    older = msgspec.structs.replace(
        crd,
        spec=msgspec.json.decode(msgspec.json.encode({"versions": [raw]}), type=objects.DefinitionSpec),
    )
    finding = only("crds", definitions=(older, *others))
    assert finding.status == MISSING
    assert "no spec.runtimeClassName" in finding.message


def test_an_image_that_a_registry_refuses_is_quoted_once() -> None:
    """However many Pods wait for it."""
    words = 'failed to pull "registry.example/flexinfer/services:1": 401 Unauthorized'
    pods = (a_pod("flexinfer-proxy-x", "ImagePullBackOff", words), a_pod("flexinfer-placer-y", "ErrImagePull", words))  # fmt: skip
    finding = only("images", pods=pods)
    assert finding.status == MISSING
    assert SERVICES in finding.message and "401 Unauthorized" in finding.message
    assert "images.md" in finding.remedy


UNPUBLISHED = "ghcr.io/flexinfer/prefetcher:0.1.0"


@pytest.mark.parametrize(
    ("nodes", "status"),
    [
        ((a_node(images=[{"names": ["docker.io/library/nats:2"]}]),), MISSING),
        ((a_node(images=[{"names": [UNPUBLISHED]}]),), OK),
        ((a_node(),), OK),
    ],
)
def test_an_image_that_no_registry_has_must_be_on_a_node(nodes: tuple[Any, ...], status: str) -> None:
    """That of download Jobs too, which is in a variable; a node that lists no images is no evidence."""
    variable = {"env": [{"name": "FLEXINFER_IMAGE", "value": UNPUBLISHED}]}
    finding = only("images", workloads=(a_workload(container=variable),), nodes=nodes)
    assert finding.status == status
    assert (UNPUBLISHED in finding.message) == (status == MISSING)


def test_runtime_classes_are_those_of_settings_models_and_the_agent() -> None:
    """One that does not exist, and one whose handler no node has."""
    changes: dict[str, Any] = {
        "config_maps": settings(FLEXINFER_RUNTIME_CLASS_NVIDIA="nvidia"),
        "models": (a_model(runtime_class="kata"),),
        "workloads": (a_workload(), a_workload("flexinfer-agent", runtimeClassName="nvidia-cdi")),
        "runtime_classes": of(
            objects.RUNTIME_CLASSES,
            {"metadata": {"name": "nvidia"}, "handler": "nvidia"},
            {"metadata": {"name": "kata"}, "handler": "kata-qemu"},
        ),
        "nodes": (a_node(runtimeHandlers=[{"name": ""}, {"name": "nvidia"}]),),
    }
    found = said("runtime-classes", **changes)
    assert [finding.status for finding in found] == [MISSING, MISSING]
    assert (
        "no node has the handler kata-qemu" in found[0].message and "Model default/llama" in found[0].message
    )
    assert "nvidia-cdi does not exist (flexinfer-agent)" in found[1].message
    assert only("runtime-classes", **(changes | {"models": (), "workloads": (a_workload(),)})).status == OK
    assert said("runtime-classes") == []


@pytest.mark.parametrize(
    ("changes", "way"),
    [
        ({"slices": (msgspec.convert({"metadata": {"name": "s"}, "spec": {"driver": "gpu.nvidia.com", "nodeName": "box"}}, RESOURCE_SLICES.type),)}, "DRA driver gpu.nvidia.com"),
        ({"config_maps": settings(FLEXINFER_RUNTIME_CLASS_NVIDIA="nvidia")}, "RuntimeClass nvidia"),
    ],
)  # fmt: skip
def test_gpus_are_given_by_a_driver_or_a_runtime_class_too(changes: dict[str, Any], way: str) -> None:
    """The three ways of docs/how-to/bind-a-gpu.md."""
    node = a_node(vendor="nvidia", runtimeHandlers=[{"name": "nvidia"}])
    finding = only("gpus", nodes=(node,), **changes)
    assert (finding.status, way in finding.message) == (OK, True)


def test_a_cluster_without_gpus_is_no_failure_where_no_model_needs_one() -> None:
    """A CPU is enough to begin with; a plugin without an agent's report is worth a look."""
    assert only("gpus", nodes=(a_node(),)).status == WARNING
    finding = only("gpus", nodes=(a_node(allocatable={"amd.com/gpu": 1}),))
    assert (finding.status, "the agent reports no GPU" in finding.message) == (WARNING, True)
    finding = only("gpus", nodes=(a_node(allocatable={"amd.com/gpu": 1}),), local=True)
    assert (finding.status, finding.message) == (OK, "box: device plugin (1 amd.com/gpu)")


def test_what_this_user_may_not_read_is_unknown_and_not_missing() -> None:
    """`kubectl auth can-i` says who to ask."""
    hidden: dict[str, Any] = dict.fromkeys(("definitions", "workloads", "storage_classes", "claims", "nodes"))
    found = [finding for finding in checks.findings(a_view(**hidden)) if finding.status != OK]
    assert {finding.status for finding in found} == {UNKNOWN}
    assert [finding.check for finding in found] == ["crds", "components", "storage", "nats", "gpus"]
    assert only("pull-secrets", secrets={("a", "b"): None}).status == UNKNOWN


def test_pull_secrets_are_those_of_the_settings_or_of_a_model() -> None:
    """The settings' count where the next Model may be, too."""
    models = [a_model(namespace="one"), a_model(namespace="two", pull_secrets=("mine",))]
    data = {"FLEXINFER_PULL_SECRETS": "house"}
    expected = {("default", "house"), ("one", "house"), ("two", "mine")}
    assert pull_secrets(models, data, "default") == expected
    assert pull_secrets([a_model()], {}, "default") == set()


def test_a_local_instance_has_processes_and_programs() -> None:
    """No workloads, no volume of NATS, and no images."""
    failure = a_condition("Ready", "False", Reason.ENGINE_NOT_INSTALLED)
    failure = msgspec.structs.replace(failure, message="vllm is not on PATH: pip install vllm")
    processes = (ProcessState("nats", "healthy"), ProcessState("placer", "not ready", "no NATS"))
    local: dict[str, Any] = {"local": True, "rights": None, "workloads": (), "claims": (), "nodes": ()}
    broken = local | {"processes": processes, "models": (a_model(conditions=(failure,)),)}
    assert "placer is not ready (no NATS)" in only("components", **broken).message
    assert "default/llama: vllm is not on PATH" in only("images", **broken).message
    assert said("nats", **local) == []
    whole = local | {"processes": processes[:1]}
    assert only("components", **whole).status == only("images", **whole).status == OK


def test_a_state_folder_that_cannot_be_written_is_missing_storage() -> None:
    """Beside the StorageClass, which is there: a full disk rejects each change."""
    full, *_ = said("storage", local=True, rights=None, unwritable="/state: No space left on device")
    assert (full.status, full.remedy) == (MISSING, "free space on that disk")
    assert full.message == (
        "nothing can be written into /state: No space left on device; changes are rejected until there is room"
    )


def test_the_table_has_each_remedy_below_its_finding() -> None:
    """And the last line counts what is missing."""
    found = [Finding("storage", OK, "there is one"), Finding("crds", MISSING, "none", "apply them")]
    lines = list(table(found))
    assert lines[1].split() == ["crds", "MISSING", "none"]
    assert lines[2].strip() == "-> apply them"
    assert lines[-1] == "1 missing"
    assert list(table(found[:1]))[-1] == "nothing that a Model needs is missing"


def test_the_command_has_its_words() -> None:
    """A namespace and an output format."""
    from flexinfer.cli import check  # noqa: PLC0415 -- its parser

    parser = argparse.ArgumentParser()
    check.arguments(parser)
    options = parser.parse_args(["-n", "team", "-o", "json"])
    assert (options.namespace, options.output) == ("team", "json")
