"""The admission policies on a real API server: each accepts and refuses, and a refusal says what helps."""

import json
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

NODES = ("home", "other")


def test_a_file_source_needs_a_namespace_that_allows_it(installed: Kubectl) -> None:
    """The message holds the command."""
    closed = namespace(installed, "closed")
    opened = namespace(installed, "opened", labels={"flexinfer.ai/file-sources": "allowed"})
    complaint = installed.refused(*CREATE, stdin=text(a_model(closed, source="file:///w.gguf")))
    assert "use HF:// or pvc://" in complaint
    assert f"kubectl label namespace {closed} flexinfer.ai/file-sources=allowed" in complaint
    installed.taken(*CREATE, stdin=text(a_model(opened, source="file:///w.gguf")))
    installed.taken(*CREATE, stdin=text(a_model(closed)))


def test_a_model_that_was_let_in_can_still_be_written_when_its_namespace_closes(installed: Kubectl) -> None:
    """Nobody could take its finalizer off otherwise."""
    space = namespace(installed, "closing", labels={"flexinfer.ai/file-sources": "allowed"})
    installed.taken("create", "-f", "-", stdin=text(a_model(space, source="file:///w.gguf")))
    installed.taken("label", "namespace", space, "flexinfer.ai/file-sources-")
    installed.taken("label", "model", "m", "-n", space, "a=b")
    change = ("patch", "model", "m", "-n", space, "--type=merge", "-p")
    until(
        lambda: installed(*change, '{"spec": {"source": "file:///other.gguf"}}', "--dry-run=server").returncode != 0,
        20, "another file is refused",
    )  # fmt: skip
    installed.taken(*change, '{"spec": {"source": "pvc://models/m.gguf"}}')


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
def test_a_priority_has_the_cap_of_its_namespace(
    installed: Kubectl, name: str, cap: str | None, priority: int | None, complaint: str
) -> None:
    """Who may annotate the namespace decides."""
    space = namespace(installed, name, annotations={"flexinfer.ai/max-priority": cap} if cap else {})
    gpu: dict[str, Any] = {"vendor": "nvidia"} | ({} if priority is None else {"priority": priority})
    given = text(a_model(space, gpu=gpu))
    if complaint:
        assert complaint in installed.refused(*CREATE, stdin=given)
    else:
        installed.taken(*CREATE, stdin=given)


@pytest.fixture(scope="session")
def home(installed: Kubectl) -> Kubectl:
    """Plain kubectl on a cluster of two nodes, an agent on the first."""
    for name in NODES:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"zone": "a"}}}
        installed.taken("apply", "--server-side", "-f", "-", stdin=text(node))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "agent", "namespace": SYSTEM},
        "spec": {
            "serviceAccountName": "flexinfer-agent",
            "nodeName": "home",
            "containers": [{"name": "agent", "image": "x"}],
        },
    }
    installed.taken("apply", "--server-side", "-f", "-", stdin=text(pod))
    return installed


def token(kubectl: Kubectl, *, bound: bool) -> str:
    """Return an agent's token; one that is bound to its Pod names the Pod's node, as those do that a kubelet mounts."""
    words = ["create", "token", "flexinfer-agent", "-n", SYSTEM]
    if bound:
        uid = kubectl.taken("get", "pod", "agent", "-n", SYSTEM, "-o", "jsonpath={.metadata.uid}")
        words += ["--bound-object-kind=Pod", "--bound-object-name=agent", f"--bound-object-uid={uid}"]
    return kubectl.taken(*words).strip()


async def patched(
    kubectl: Kubectl, folder: Path, node: str, patch: dict[str, Any], *, bound: bool = True
) -> None:
    """Patch a node as the agent does, by its own client and one of its tokens."""
    config = json.loads(kubectl.taken("config", "view", "--raw", "-o", "json"))
    config["users"][0]["user"] = {"token": token(kubectl, bound=bound)}
    (folder / "agent").write_text(json.dumps(config))
    async with client.connected(str(folder / "agent")) as api:
        await api.merge(NODES_OF_THE_API, "", node, patch)


NOTES = NodeLabels(labels={"flexinfer.ai/gpu.vendor": "NVIDIA"}, free_mb=1).patch()


async def test_an_agent_writes_its_notes_on_its_own_node(home: Kubectl, tmp_path: Path) -> None:
    """And on no other, nor without a token that says where it is."""
    await patched(home, tmp_path, "home", NOTES)
    with pytest.raises(ForbiddenError, match="to its own Node: this one runs on home"):
        await patched(home, tmp_path, "other", NOTES)
    with pytest.raises(ForbiddenError, match="runs on none that its token names"):
        await patched(home, tmp_path, "home", NOTES, bound=False)


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"metadata": {"labels": {"zone": "b"}}}, id="label changed"),
        pytest.param({"metadata": {"labels": {"zone": None}}}, id="label taken"),
        pytest.param({"metadata": {"labels": {"else": "x"}}}, id="label of others"),
        pytest.param({"metadata": {"annotations": {"else": "x"}}}, id="annotation of others"),
        pytest.param({"spec": {"unschedulable": True}}, id="cordoned"),
    ],
)
async def test_an_agent_touches_nothing_of_a_node_but_what_is_ours(
    home: Kubectl, tmp_path: Path, patch: dict[str, Any]
) -> None:
    """A label decides what runs where, and cordoning is for people."""
    with pytest.raises(ForbiddenError, match="may only write labels and annotations"):
        await patched(home, tmp_path, "home", patch)


def service(space: str, name: str, **labels: str) -> str:
    """Return a Service."""
    meta = {"name": name, "namespace": space, "labels": labels}
    return text({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})


def test_the_launcher_writes_what_is_ours_alone(installed: Kubectl) -> None:
    """A Pod or Service of somebody else is as safe from it as RBAC could make it, could RBAC tell."""
    space = namespace(installed, "neighbours")
    launcher = ("--as", account("launcher"))
    installed.taken("create", "-f", "-", stdin=service(space, "foreign"))
    complaint = installed.refused(*launcher, "delete", "service", "foreign", "-n", space, "--dry-run=server")
    assert "what carries the label flexinfer.ai/model-uid" in complaint
    installed.refused(*launcher, *CREATE, stdin=service(space, "x"))
    ours = service(space, "ours", **{"flexinfer.ai/model-uid": "u"})
    installed.taken(*launcher, "create", "-f", "-", stdin=ours)
    installed.taken(*launcher, "delete", "service", "ours", "-n", space)


def test_the_arbiter_writes_no_lease_but_ours(installed: Kubectl) -> None:
    """The Leases of the cluster's own controllers lie in reach of its verbs."""
    arbiter = ("--as", account("arbiter"))

    def lease(name: str) -> str:
        meta = {"name": name, "namespace": "kube-system"}
        return text({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta, "spec": {}})

    assert "names begin with flexinfer-" in installed.refused(
        *arbiter, *CREATE, stdin=lease("kube-scheduler")
    )
    installed.taken(*arbiter, *CREATE, stdin=lease("flexinfer-group-x"))


def test_the_policies_are_sound(installed: Kubectl) -> None:
    """The API server checks the types of their expressions and has nothing to say."""

    def checked() -> list[dict[str, Any]]:
        told = json.loads(installed.taken("get", "validatingadmissionpolicies", "-o", "json"))
        return [item.get("status", {}) for item in told["items"]]

    until(lambda: all("typeChecking" in status for status in checked()), 20, "all are checked")
    assert [status["typeChecking"] for status in checked()] == [{}] * 4
