"""`flexinfer check` on a real API server: what is not installed there, and what this user may not read."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.installed import Kubectl, text
from tests.instance import BIN, Running
from tests.patience import patient

READER = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "check-reader"},
    "rules": [{"apiGroups": ["ai.flexinfer"], "resources": ["models"], "verbs": ["get", "list"]}],
}
BINDING = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "check-reader"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "check-reader"},
    "subjects": [{"kind": "ServiceAccount", "name": "check-reader", "namespace": "default"}],
}
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "check-reader", "namespace": "default"}}  # fmt: skip
CLASS = {
    "apiVersion": "storage.k8s.io/v1",
    "kind": "StorageClass",
    "metadata": {
        "name": "check-default",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
    },
    "provisioner": "example.com/none",
}


def checked(environment: dict[str, str], *words: str) -> tuple[int, dict[str, tuple[str, str, str]]]:
    """Return the exit status of the command, and the first finding of each check."""
    done = subprocess.run(
        [str(BIN / "flexinfer"), "check", "-o", "json", *words],
        env=environment, capture_output=True, text=True, check=False, timeout=patient(60),
    )  # fmt: skip
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    return done.returncode, {
        one["check"]: (one["status"], one["message"], one["remedy"]) for one in reversed(found)
    }


def test_a_plane_without_workloads_is_not_installed(prepared: Kubectl, plane: Running) -> None:
    """The CRDs of this release are there, and this user is the administrator; nothing else is."""
    prepared("delete", "storageclass", "--all")
    status, found = checked(plane.environment())
    assert status == 1
    assert found["crds"][0] == found["rights"][0] == "ok"
    assert found["components"][0] == found["storage"][0] == "missing"
    assert "kubectl apply -k deploy/" in found["components"][2]
    prepared.accepted("apply", "-f", "-", stdin=text(CLASS))
    assert checked(plane.environment())[1]["storage"] == (
        "ok",
        "the default StorageClass is check-default",
        "",
    )
    prepared.accepted("delete", "storageclass", "check-default")


@pytest.fixture
def reader(prepared: Kubectl, plane: Running, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return the environment of a user who may read Models alone."""
    prepared.accepted("apply", "-f", "-", stdin=text(ACCOUNT, READER, BINDING))
    token = prepared.accepted("create", "token", "check-reader", "-n", "default").strip()
    config = prepared.accepted("config", "view", "--raw", "--flatten", "-o", "json")
    content = json.loads(config)
    content["users"] = [{"name": one["name"], "user": {"token": token}} for one in content["users"]]
    file = tmp_path / "reader.json"
    file.write_text(json.dumps(content))
    yield plane.environment() | {"KUBECONFIG": str(file)}
    prepared.accepted("delete", "-f", "-", stdin=text(ACCOUNT, READER, BINDING))


def test_a_user_without_rights_is_told_which_and_the_rest_is_unknown(reader: dict[str, str]) -> None:
    """Not missing: what may not be read may be there."""
    status, found = checked(reader)
    assert status == 1
    assert found["rights"][:2] == (
        "missing",
        "this user may not create, patch, delete Models in namespace default",
    )
    for check in ("crds", "components", "storage", "nats", "gpus"):
        assert found[check][0] == "unknown", found[check]
        assert "kubectl auth can-i list" in found[check][2]
