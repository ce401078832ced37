"""The admission policies on a real API server: what each accepts and refuses, and the remedy in its message."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flexinfer.agent.node_labels import NodeLabels
from flexinfer.runtime.kubernetes import client
from flexinfer.runtime.kubernetes.api import NODES as NODES_OF_THE_API
from flexinfer.runtime.kubernetes.api import ForbiddenError
from tests.cluster.installed import CREATE, SYSTEM, Kubectl, a_model, namespace, text
from tests.cluster.rights import account
from tests.instance import until

NODES = ("own", "other")


def test_a_file_source_needs_a_namespace_that_allows_it(installed: Kubectl) -> None:
    """The message contains the command that allows it."""
    closed = namespace(installed, "closed")
    opened = namespace(installed, "opened", labels={"flexinfer.ai/file-sources": "allowed"})
    complaint = installed.refused(*CREATE, stdin=text(a_model(closed, source="file:///w.gguf")))
    assert "use HF:// or pvc://" in complaint
    assert f"kubectl label namespace {closed} flexinfer.ai/file-sources=allowed" in complaint
    installed.accepted(*CREATE, stdin=text(a_model(opened, source="file:///w.gguf")))
    installed.accepted(*CREATE, stdin=text(a_model(closed)))


def test_an_admitted_model_can_still_be_written_after_its_namespace_loses_the_label(
    installed: Kubectl,
) -> None:
    """Otherwise its finalizer could not be removed."""
    space = namespace(installed, "closing", labels={"flexinfer.ai/file-sources": "allowed"})
    installed.accepted("create", "-f", "-", stdin=text(a_model(space, source="file:///w.gguf")))
    installed.accepted("label", "namespace", space, "flexinfer.ai/file-sources-")
    installed.accepted("label", "model", "m", "-n", space, "a=b")
    change = ("patch", "model", "m", "-n", space, "--type=merge", "-p")
    until(
        lambda: installed(*change, '{"spec": {"source": "file:///other.gguf"}}', "--dry-run=server").returncode != 0,
        20, "another file is refused",
    )  # fmt: skip
    installed.accepted(*change, '{"spec": {"source": "pvc://models/m.gguf"}}')
    installed.accepted("delete", "model", "m", "-n", space)


@pytest.mark.parametrize(
    ("name", "cap", "priority", "complaint"),
    [
        pytest.param("capped-at", "200", 200, "", id="at the cap"),
        pytest.param("capped-over", "200", 201, "allows at most 200: lower it", id="over the cap"),
        pytest.param("capped-low", "50", None, "spec.gpu.priority is 100", id="the default counts"),
        pytest.param("capped-none", None, 1000, "", id="no cap"),
        pytest.param("capped-bad", "many", 1, "flexinfer.ai/max-priority=100", id="no number"),
    ],
)
def test_a_priority_is_capped_by_the_annotation_of_its_namespace(
    installed: Kubectl, name: str, cap: str | None, priority: int | None, complaint: str
) -> None:
    """The right to annotate the namespace is the right to set the cap."""
    space = namespace(installed, name, annotations={"flexinfer.ai/max-priority": cap} if cap else {})
    gpu: dict[str, Any] = {"vendor": "nvidia"} | ({} if priority is None else {"priority": priority})
    manifest = text(a_model(space, gpu=gpu))
    if complaint:
        assert complaint in installed.refused(*CREATE, stdin=manifest)
    else:
        installed.accepted(*CREATE, stdin=manifest)


@pytest.fixture(scope="module")
def two_nodes(installed: Kubectl) -> Iterator[Kubectl]:
    """A kubectl on a cluster of two nodes with an agent on the first."""
    for name in NODES:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"zone": "a"}}}
        installed.accepted("apply", "--server-side", "-f", "-", stdin=text(node))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent", "namespace": SYSTEM},
        "spec": {
            "serviceAccountName": "flexinfer-agent",
            "nodeName": "own",
            "containers": [{"name": "agent", "image": "x"}],
        },
    }
    installed.accepted("apply", "--server-side", "-f", "-", stdin=text(pod))
    yield installed
    installed.accepted("delete", "pod", "agent", "-n", SYSTEM, "--force", "--grace-period=0")
    installed.accepted("delete", "node", *NODES)


def token(kubectl: Kubectl, *, bound: bool) -> str:
    """Return a token of the agent.

    One that is bound to its Pod names the Pod's node, as a token mounted by the kubelet does.
    """
    words = ["create", "token", "flexinfer-agent", "-n", SYSTEM]
    if bound:
        uid = kubectl.accepted("get", "pod", "agent", "-n", SYSTEM, "-o", "jsonpath={.metadata.uid}")
        words += ["--bound-object-kind=Pod", "--bound-object-name=agent", f"--bound-object-uid={uid}"]
    return kubectl.accepted(*words).strip()


async def patched(
    kubectl: Kubectl, folder: Path, node: str, patch: dict[str, Any], *, bound: bool = True
) -> None:
    """Patch a node with the agent's client and one of its tokens."""
    config = json.loads(kubectl.accepted("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token(kubectl, bound=bound)}
    (folder / "agent").write_text(json.dumps(config))
    async with client.connected(str(folder / "agent")) as api:
        await api.merge(NODES_OF_THE_API, "", node, patch)


LABELS = NodeLabels(labels={"flexinfer.ai/gpu.vendor": "NVIDIA"}, free_mb={"GPU-1": 1}).patch()


async def test_an_agent_labels_its_own_node_only(two_nodes: Kubectl, tmp_path: Path) -> None:
    """A token that names no node may patch none."""
    await patched(two_nodes, tmp_path, "own", LABELS)
    with pytest.raises(ForbiddenError, match="to its own Node: this one runs on own"):
        await patched(two_nodes, tmp_path, "other", LABELS)
    with pytest.raises(ForbiddenError, match="runs on none that its token names"):
        await patched(two_nodes, tmp_path, "own", LABELS, bound=False)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"metadata": {"labels": {"zone": "b"}}}, id="label changed"),
        pytest.param({"metadata": {"labels": {"zone": None}}}, id="label removed"),
        pytest.param({"metadata": {"labels": {"else": "x"}}}, id="foreign label"),
        pytest.param({"metadata": {"annotations": {"else": "x"}}}, id="foreign annotation"),
        pytest.param({"spec": {"unschedulable": True}}, id="cordoned"),
    ],
)
async def test_an_agent_changes_nothing_of_a_node_but_the_labels_of_flexinfer(
    two_nodes: Kubectl, tmp_path: Path, patch: dict[str, Any]
) -> None:
    """Labels decide where Pods are scheduled, and cordoning is for administrators."""
    with pytest.raises(ForbiddenError, match="may only write labels and annotations"):
        await patched(two_nodes, tmp_path, "own", patch)


def service(space: str, name: str, **labels: str) -> str:
    """Return a Service."""
    meta = {"name": name, "namespace": space, "labels": labels}
    return text({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})


def test_the_launcher_deletes_only_objects_of_flexinfer(installed: Kubectl) -> None:
    """The policy protects Pods and Services of other owners, which RBAC cannot distinguish."""
    space = namespace(installed, "neighbours")
    launcher = ("--as", account("launcher"))
    installed.accepted("create", "-f", "-", stdin=service(space, "foreign"))
    complaint = installed.refused(*launcher, "delete", "service", "foreign", "-n", space, "--dry-run=server")
    assert "may only write objects with the label flexinfer.ai/model-uid" in complaint
    installed.refused(*launcher, *CREATE, stdin=service(space, "x"))
    labelled = service(space, "labelled", **{"flexinfer.ai/model-uid": "u"})
    installed.accepted(*launcher, "create", "-f", "-", stdin=labelled)
    installed.accepted(*launcher, "delete", "service", "labelled", "-n", space)


def test_the_launcher_writes_what_a_model_owns_although_its_labels_are_gone(installed: Kubectl) -> None:
    """Any user who may label Pods may remove them: without a right of its own the launcher could neither put them back nor stop the engine."""
    space = namespace(installed, "relabelled")
    launcher = ("--as", account("launcher"))

    def pod(name: str, **owner: str) -> str:
        reference = {"name": "m", "uid": uid, "controller": True} | owner
        meta = {"name": name, "namespace": space, "ownerReferences": [reference]}
        spec = {
            "containers": [{"name": "engine", "image": "x"}],
            "schedulingGates": [{"name": "flexinfer.ai/turn-1"}],
        }
        return text({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})

    ours = {"apiVersion": "ai.flexinfer/v1alpha2", "kind": "Model"}
    installed.accepted("create", "-f", "-", stdin=text(a_model(space)))
    uid = installed.accepted("get", "model", "m", "-n", space, "-o", "jsonpath={.metadata.uid}")
    installed.accepted("create", "-f", "-", stdin=pod("m-0", **ours))
    installed.accepted("create", "-f", "-", stdin=pod("theirs", apiVersion="example.com/v1", kind="Model"))
    labels = (
        "patch",
        "pod",
        "-n",
        space,
        "--type=merge",
        "-p",
        '{"metadata": {"labels": {"flexinfer.ai/model-uid": "u"}}}',
    )
    assert "whose owner is a Model" in installed.refused(*launcher, *labels, "theirs")
    installed.accepted(*launcher, *labels, "m-0", "--dry-run=server")
    installed.accepted(*launcher, "delete", "pod", "m-0", "-n", space, "--dry-run=server")
    installed.accepted("delete", "model", "m", "-n", space)


def test_the_launcher_creates_only_resource_claims_of_models(installed: Kubectl) -> None:
    """It can read and create claims, and neither change nor delete one: each goes with its Pod."""
    space = namespace(installed, "claims")
    launcher = ("--as", account("launcher"))

    def claim(**labels: str) -> str:
        meta = {"name": "c", "namespace": space, "labels": labels}
        request = {"name": "gpu-0", "exactly": {"deviceClassName": "gpu.nvidia.com"}}
        spec = {"devices": {"requests": [request]}}
        body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": meta, "spec": spec}
        return text(body)

    complaint = installed.refused(*launcher, *CREATE, stdin=claim())
    assert "may only write objects with the label flexinfer.ai/model-uid" in complaint
    installed.accepted(*launcher, "create", "-f", "-", stdin=claim(**{"flexinfer.ai/model-uid": "u"}))
    installed.accepted(*launcher, "get", "resourceclaim", "c", "-n", space)
    refused = installed.refused(*launcher, "delete", "resourceclaim", "c", "-n", space)
    assert 'cannot delete resource "resourceclaims"' in refused


def test_the_arbiter_writes_only_leases_of_flexinfer(installed: Kubectl) -> None:
    """In the namespace of the components alone, and there only those with a name of FlexInfer."""
    arbiter = ("--as", account("arbiter"))

    def lease(name: str, space: str) -> str:
        meta = {"name": name, "namespace": space}
        return text({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": {}})

    installed.refused(*arbiter, *CREATE, stdin=lease("kube-scheduler", "kube-system"))
    refused = installed.refused(*arbiter, *CREATE, stdin=lease("kube-scheduler", "flexinfer-system"))
    assert "names begin with flexinfer-" in refused
    installed.accepted(*arbiter, *CREATE, stdin=lease("flexinfer-x", "flexinfer-system"))


def test_the_policies_pass_the_type_check(installed: Kubectl) -> None:
    """The API server type-checks their expressions and reports no warning."""

    def checked() -> list[dict[str, Any]]:
        policies = json.loads(installed.accepted("get", "validatingadmissionpolicies", "-o", "json"))
        return [item.get("status", {}) for item in policies["items"]]

    until(lambda: all("typeChecking" in status for status in checked()), 20, "all policies are type-checked")
    assert [status["typeChecking"] for status in checked()] == [{}] * 4
