"""The output of kubectl commands that write: patches, applies, diffs and deletions."""

import json

import pytest

from tests.conformance.test_kubectl import FINALIZER, MODEL, POD
from tests.kubectl import Kubectl
from tests.patience import patient


def test_patch_label_and_annotate_change_the_object(kubectl: Kubectl) -> None:
    """Merge and JSON patches of a Model; a strategic merge patch of a built-in kind."""
    kubectl("create -f -", MODEL)
    merge = ("patch", "mdl", "smollm2", "--type=merge", "-p", '{"spec":{"gpu":{"shared":"g"}}}')
    assert kubectl.run(*merge).out == "model.ai.flexinfer/smollm2 patched\n"
    assert kubectl.run(*merge).out == "model.ai.flexinfer/smollm2 patched (no change)\n"
    move = '[{"op":"test","path":"/spec/gpu/shared","value":"g"},{"op":"remove","path":"/spec/gpu"}]'
    assert kubectl.run("patch", "mdl", "smollm2", "--type=json", "-p", move).code == 0
    assert kubectl("label mdl smollm2 size=large --overwrite") == "model.ai.flexinfer/smollm2 labeled"
    assert kubectl("annotate mdl smollm2 note=hello") == "model.ai.flexinfer/smollm2 annotated"
    model = json.loads(kubectl("get mdl smollm2 -o json"))
    assert "gpu" not in model["spec"]
    assert model["metadata"]["labels"] == {"size": "large"}
    kubectl("create -f -", POD)
    assert kubectl.run("patch", "pod", "waits", "-p", '{"metadata":{"labels":{"a":"b"}}}').code == 0
    assert kubectl.refused("patch mdl smollm2 -p {}") == (
        "error: application/strategic-merge-patch+json is not supported by ai.flexinfer/v1alpha2, Kind=Model: the body of the request was in an unknown format - accepted media types "
        "include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )


def test_server_side_apply_keeps_owners_apart(kubectl: Kubectl) -> None:
    """A conflict names the other manager; force takes over the field."""
    assert kubectl("apply --server-side -f - --field-manager=one", MODEL) == (
        "model.ai.flexinfer/smollm2 serverside-applied"
    )
    other = MODEL.replace("smollm2.gguf", "other.gguf")
    conflict = kubectl.refused("apply --server-side -f - --field-manager=two", other)
    assert 'Apply failed with 1 conflict: conflict with "one"' in conflict
    assert ".spec.source" in conflict
    kubectl("apply --server-side -f - --field-manager=two --force-conflicts", other)
    assert kubectl("get mdl smollm2 -o jsonpath={.spec.source}") == "pvc://models/other.gguf"


def test_a_stale_replace_is_a_conflict(kubectl: Kubectl) -> None:
    """As sent by `kubectl edit` and `replace`."""
    kubectl("create -f -", MODEL)
    stale = kubectl("get mdl smollm2 -o json")
    kubectl("label mdl smollm2 a=b")
    assert kubectl.refused("replace -f -", stale).endswith(
        'Operation cannot be fulfilled on models.ai.flexinfer "smollm2": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    assert kubectl("replace -f -", MODEL) == "model.ai.flexinfer/smollm2 replaced"


def test_diff_shows_what_an_apply_would_change(kubectl: Kubectl) -> None:
    """By a server-side dry run, which writes nothing."""
    kubectl("apply -f -", MODEL)
    diff = kubectl.run("diff", "-f", "-", stdin=MODEL.replace("size: small", "size: large"))
    assert diff.code == 1, diff.err
    assert "-    size: small\n+    size: large\n" in diff.out
    assert kubectl("apply --dry-run=server -f -", MODEL.replace("small", "large")) == (
        "model.ai.flexinfer/smollm2 configured (server dry run)"
    )
    assert kubectl("get mdl -l size=small -o name") == "model.ai.flexinfer/smollm2"


def test_delete_waits_for_finalizers(kubectl: Kubectl) -> None:
    """The object stays, with a deletionTimestamp, until its last finalizer is removed."""
    kubectl("create -f -", MODEL.replace("name: smollm2\n", f"name: smollm2\n  finalizers: [{FINALIZER}]\n"))
    deleting = kubectl.start("delete", "mdl", "--all")
    kubectl("wait --for=jsonpath={.metadata.deletionTimestamp} mdl/smollm2 --timeout=20s")
    kubectl("get mdl smollm2")
    kubectl.run("patch", "mdl", "smollm2", "--type=merge", "-p", '{"metadata":{"finalizers":null}}')
    assert deleting.communicate(timeout=patient(10))[0].startswith('model.ai.flexinfer "smollm2" deleted')
    assert kubectl("get mdl -o name") == ""


def owned_pod(kubectl: Kubectl) -> str:
    """Return a Pod that a Model owns."""
    owner = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "name": "smollm2",
        "blockOwnerDeletion": True,
    }
    owner["uid"] = kubectl("get mdl smollm2 -o jsonpath={.metadata.uid}")
    pod = {"metadata": {"name": "waits", "ownerReferences": [owner]}, "apiVersion": "v1", "kind": "Pod"}
    containers = [{"name": "engine", "image": "example.com/engine:1"}]
    return json.dumps(pod | {"spec": {"schedulingGates": [{"name": "a/b"}], "containers": containers}})


@pytest.mark.parametrize(
    ("cascade", "left"), [("background", ""), ("foreground", ""), ("orphan", "pod/waits")]
)
def test_deleting_a_model_deletes_what_it_owns_unless_orphaned(
    kubectl: Kubectl, cascade: str, left: str
) -> None:
    """With the three values of --cascade."""
    kubectl("create -f -", MODEL)
    kubectl("create -f -", owned_pod(kubectl))
    kubectl(f"delete mdl smollm2 --cascade={cascade}")
    if not left:
        kubectl("wait --for=delete pod/waits --timeout=20s")
    assert kubectl("get pods -o name") == left
