"""The output of kubectl for common commands, without times, uids and versions."""

import json
import re
import signal
from pathlib import Path

from tests.apiserver import ApiServer
from tests.conformance.objects import ready, set_status
from tests.kubectl import Kubectl
from tests.patience import patient

MODEL = """
apiVersion: ai.flexinfer/v1alpha2
kind: Model
metadata:
  name: smollm2
  labels: {size: small}
spec:
  backend: llamacpp
  source: pvc://models/smollm2.gguf
"""
POD = """
apiVersion: v1
kind: Pod
metadata:
  name: waits
spec:
  schedulingGates: [{name: ai.flexinfer/gate}]
  containers: [{name: engine, image: "example.com/engine:1", args: ["--port", "80"]}]
"""
FINALIZER = "ai.flexinfer/test"


def crd(name: str) -> str:
    """Return a small CustomResourceDefinition."""
    return json.dumps(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{name}s.example.com"},
            "spec": {
                "group": "example.com",
                "scope": "Namespaced",
                "names": {"plural": f"{name}s", "singular": name, "kind": name.title()},
                "versions": [
                    {
                        "name": "v1",
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "properties": {
                                    "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}
                                },
                            }
                        },
                    }
                ],
            },
        }
    )


def columns(table: str) -> list[list[str]]:
    """Return a printed table as rows of cells."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_apply_prints_created_unchanged_and_configured(kubectl: Kubectl) -> None:
    """For the first apply, the same object, and a changed one."""
    changed = MODEL.replace("pvc://models/smollm2.gguf", "pvc://models/other.gguf")
    outputs = [kubectl("apply -f -", manifest) for manifest in (MODEL, MODEL, changed)]
    assert outputs == [
        f"model.ai.flexinfer/smollm2 {word}" for word in ("created", "unchanged", "configured")
    ]


def test_a_list_is_applied_item_by_item(kubectl: Kubectl) -> None:
    """Kubectl requests version 2 of OpenAPI before it applies a `kind: List`."""
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    whole = {"apiVersion": "v1", "kind": "List", "items": [item, {**item, "metadata": {"name": "two"}}]}
    assert kubectl("apply -f -", json.dumps(whole)) == "configmap/one created\nconfigmap/two created"


def test_get_prints_the_columns_of_the_crd(server: ApiServer, kubectl: Kubectl) -> None:
    """By short name and by category; `-o wide` prints more."""
    kubectl("create -f -", MODEL)
    set_status(server, kubectl.namespace, phase="Ready", reason="Up", conditions=ready())
    header, row = columns(kubectl("get mdl"))
    assert header == ["NAME", "PHASE", "READY", "REASON", "BACKEND", "NODE", "CACHE", "AGE"]
    assert row[:5] == ["smollm2", "Ready", "True", "Up", "llamacpp"]
    wide = columns(kubectl("get ai -o wide"))
    assert wide[0][6:] == ["CACHE", "AGE", "SHARED", "PRIORITY", "POSITION", "EXPECTED", "ENDPOINT", "SOURCE"]


def test_get_prints_the_object_in_other_formats(kubectl: Kubectl) -> None:
    """JSON, YAML, JSONPath and name."""
    kubectl("create -f -", MODEL)
    assert json.loads(kubectl("get model smollm2 -o json"))["spec"]["backend"] == "llamacpp"
    assert "source: pvc://models/smollm2.gguf" in kubectl("get model smollm2 -o yaml")
    assert kubectl("get mdl -o jsonpath={.items[*].spec.source}") == "pvc://models/smollm2.gguf"
    assert kubectl("get mdl -o name") == "model.ai.flexinfer/smollm2"


def test_get_selects_by_labels_and_fields(kubectl: Kubectl) -> None:
    """Labels, the selectable fields of the CRD, and all namespaces."""
    kubectl("apply -f -", MODEL + "---" + MODEL.replace("smollm2", "other").replace("small", "large"))
    assert kubectl("get mdl -l size=large -o name") == "model.ai.flexinfer/other"
    assert kubectl("get mdl -l size!=large -o name") == "model.ai.flexinfer/smollm2"
    assert kubectl("get mdl --field-selector metadata.name=other -o name") == "model.ai.flexinfer/other"
    assert kubectl("get mdl --field-selector spec.backend=vllm -o name") == ""
    assert f"{kubectl.namespace} " in kubectl("get mdl -A")
    assert "field label not supported: spec.source" in kubectl.refused(
        "get mdl --field-selector spec.source=x"
    )


def test_get_reports_when_nothing_is_found(kubectl: Kubectl) -> None:
    """An error for a name, a note for a list."""
    assert kubectl.run("get", "mdl").err == f"No resources found in {kubectl.namespace} namespace.\n"
    assert kubectl.refused("get mdl x") == 'Error from server (NotFound): models.ai.flexinfer "x" not found'
    assert kubectl.refused("get nonesuches") == (
        'error: the server doesn\'t have a resource type "nonesuches"'
    )


def test_explain_describes_each_field(kubectl: Kubectl) -> None:
    """From the OpenAPI documents."""
    output = kubectl("explain model.spec.gpu")
    assert output.startswith(
        "GROUP:      ai.flexinfer\nKIND:       Model\nVERSION:    v1alpha2\n\nFIELD: gpu <Object>"
    )
    assert re.search(r"shared\t<string>\n    \S", output)
    assert "FIELD: containers <[]" in kubectl("explain pod.spec.containers")


def test_an_invalid_object_is_refused_with_field_and_reason(kubectl: Kubectl) -> None:
    """Unknown fields and validation rules, each with the path of the field."""
    unknown = kubectl.refused("apply -f -", MODEL + "  flavour: sweet\n")
    assert 'strict decoding error: unknown field "spec.flavour"' in unknown
    wrong = kubectl.refused("apply -f -", MODEL.replace("pvc://models/smollm2.gguf", "../../etc/passwd"))
    assert wrong.startswith('The Model "smollm2" is invalid:')
    assert "spec.source: Invalid value" in wrong


def test_describe_prints_the_events_of_the_object(kubectl: Kubectl) -> None:
    """Events are selected by the uid of their involvedObject."""
    kubectl("create -f -", MODEL)
    uid = kubectl("get mdl smollm2 -o jsonpath={.metadata.uid}")
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "smollm2.1"},
        "type": "Normal",
        "reason": "Placed",
        "message": "runs on local",
        "involvedObject": {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "name": "smollm2",
            "namespace": kubectl.namespace,
            "uid": uid,
        },
        "firstTimestamp": "2026-11-24T12:00:00Z",
        "lastTimestamp": "2026-11-24T12:00:00Z",
        "count": 1,
        "source": {"component": "flexinfer-placer"},
    }
    kubectl("create -f -", json.dumps(event))
    output = kubectl("describe mdl smollm2")
    assert "Backend:  llamacpp" in output
    assert re.search(r"Normal  Placed  .*  flexinfer-placer  runs on local", output)
    assert columns(kubectl("get events"))[1][1:] == ["Normal", "Placed", "model/smollm2", "runs on local"]
    assert "runs on local" in kubectl("events --for model/smollm2")


def test_wait_returns_when_the_condition_is_met(server: ApiServer, kubectl: Kubectl) -> None:
    """For a condition, a JSONPath and a deletion."""
    kubectl("create -f -", MODEL)
    waiting = kubectl.start("wait", "--for=condition=Ready", "mdl/smollm2", f"--timeout={patient(15):g}s")
    deleting = kubectl.start("wait", "--for=delete", "mdl/smollm2", f"--timeout={patient(15):g}s")
    set_status(server, kubectl.namespace, phase="Ready", conditions=ready())
    assert waiting.communicate(timeout=patient(20))[0] == "model.ai.flexinfer/smollm2 condition met\n"
    assert kubectl("wait --for=jsonpath={.status.phase}=Ready mdl/smollm2 --timeout=20s")
    assert (
        kubectl("delete mdl smollm2")
        == f'model.ai.flexinfer "smollm2" deleted from {kubectl.namespace} namespace'
    )
    assert deleting.communicate(timeout=patient(20))[1] == ""
    assert deleting.returncode == 0


def test_wait_fails_at_its_timeout(kubectl: Kubectl) -> None:
    """With the message of kubectl."""
    kubectl("create -f -", MODEL)
    assert kubectl.refused("wait --for=condition=Ready mdl/smollm2 --timeout=300ms") == (
        "error: timed out waiting for the condition on models/smollm2"
    )


def test_a_watch_prints_a_line_for_each_change(server: ApiServer, kubectl: Kubectl) -> None:
    """The header is printed once."""
    kubectl("create -f -", MODEL)
    watching = kubectl.start("get", "mdl", "-w")
    assert watching.stdout is not None
    first = [watching.stdout.readline() for _ in range(2)]
    set_status(server, kubectl.namespace, phase="Loading", conditions=ready())
    lines = [columns(line)[0] for line in (*first, watching.stdout.readline())]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=patient(5))
    assert [line[:2] for line in lines] == [
        ["NAME", "PHASE"],
        ["smollm2", "llamacpp"],
        ["smollm2", "Loading"],
    ]


def test_a_pod_is_printed_with_the_usual_columns(kubectl: Kubectl) -> None:
    """A gated Pod; its log is still empty."""
    kubectl("create -f -", POD)
    header, row = columns(kubectl("get pods"))
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["waits", "0/1", "SchedulingGated", "0"]
    assert "Image:      example.com/engine:1" in kubectl("describe pod waits")
    assert kubectl("logs waits") == ""
    assert kubectl.refused("logs waits -c other") == (
        "error: container other is not valid for pod waits out of: engine"
    )


def test_a_namespace_is_deleted_with_its_contents(kubectl: Kubectl) -> None:
    """It is created by the typed client of kubectl."""
    name = f"{kubectl.namespace}-more"
    assert kubectl(f"create namespace {name}") == f"namespace/{name} created"
    kubectl(f"create configmap kept --from-literal=a=b -n {name}")
    assert columns(kubectl(f"get cm -n {name}"))[1][:2] == ["kept", "1"]
    assert kubectl(f"delete namespace {name}") == f'namespace "{name}" deleted'
    assert "not found" in kubectl.refused(f"get namespace {name}")
    assert kubectl.refused(f"create configmap late -n {name}") == (
        f'error: failed to create configmap: namespaces "{name}" not found'
    )


def test_the_kind_of_a_new_crd_is_served_and_explained(kubectl: Kubectl) -> None:
    """It is no longer served once the CRD is deleted."""
    kubectl("apply -f -", crd("widget"))
    assert kubectl("wait --for=condition=Established crd/widgets.example.com --timeout=20s")
    widget = {
        "apiVersion": "example.com/v1",
        "kind": "Widget",
        "metadata": {"name": "w"},
        "spec": {"size": 3},
    }
    kubectl("apply -f -", json.dumps(widget))
    assert columns(kubectl("get widgets"))[0] == ["NAME", "AGE"]
    assert "size\t<integer>" in kubectl("explain widget.spec")
    kubectl("delete crd widgets.example.com")
    assert kubectl.run("get", "--raw", "/apis/example.com/v1").code != 0


def test_kinds_and_versions_can_be_listed(kubectl: Kubectl) -> None:
    """With api-resources, api-versions and version."""
    kinds = [line[0] for line in columns(kubectl("api-resources --no-headers -o wide"))]
    assert {"models", "pods", "jobs", "leases", "storageclasses", "customresourcedefinitions"} <= set(kinds)
    assert {"v1", "ai.flexinfer/v1alpha2", "batch/v1"} <= set(kubectl("api-versions").splitlines())
    assert "Server Version: v1.37" in kubectl("version")
    assert json.loads(kubectl("get --raw /api"))["versions"] == ["v1"]


def test_nothing_is_readable_without_the_token(server: ApiServer, kubectl: Kubectl, tmp_path: Path) -> None:
    """Another user of the machine cannot read anything, not even discovery."""
    stripped = json.loads(server.kubeconfig.read_bytes())
    stripped["users"][0]["user"] = {"token": "wrong"}
    (tmp_path / "kubeconfig").write_text(json.dumps(stripped))
    output = kubectl.run("get", "mdl", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert output.code == 1
    assert output.err.endswith("error: You must be logged in to the server (Unauthorized)\n")
