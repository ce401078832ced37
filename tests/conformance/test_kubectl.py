"""Plain kubectl: what people type, and what they read then. Times, uids and versions are left out."""

import json
import re
import signal
from pathlib import Path

from tests.apiserver import ApiServer
from tests.conformance.objects import ready, set_status
from tests.kubectl import Kubectl

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
    """Return a small definition."""
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
    """Return a printed table as rows of words."""
    return [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]


def test_apply_says_what_it_did_and_does_nothing_twice(kubectl: Kubectl) -> None:
    """Created, then unchanged, then configured."""
    changed = MODEL.replace("pvc://models/smollm2.gguf", "pvc://models/other.gguf")
    said = [kubectl("apply -f -", given) for given in (MODEL, MODEL, changed)]
    assert said == [f"model.ai.flexinfer/smollm2 {word}" for word in ("created", "unchanged", "configured")]


def test_a_list_is_applied_item_by_item_and_checked_as_strictly(kubectl: Kubectl) -> None:
    """Kubectl asks for version 2 of OpenAPI before it applies a `kind: List`."""
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}
    whole = {"apiVersion": "v1", "kind": "List", "items": [item, {**item, "metadata": {"name": "two"}}]}
    assert kubectl("apply -f -", json.dumps(whole)) == "configmap/one created\nconfigmap/two created"


def test_get_prints_the_columns_of_the_definition(server: ApiServer, kubectl: Kubectl) -> None:
    """By short name and by category; wide shows more."""
    kubectl("create -f -", MODEL)
    set_status(server, kubectl.namespace, phase="Ready", conditions=ready())
    header, row = columns(kubectl("get mdl"))
    assert header == ["NAME", "PHASE", "READY", "REASON", "BACKEND", "NODE", "AGE"]
    assert row[:5] == ["smollm2", "Ready", "True", "Up", "llamacpp"]
    wide = columns(kubectl("get ai -o wide"))
    assert wide[0][6:] == ["AGE", "SHARED", "PRIORITY", "POSITION", "ENDPOINT", "SOURCE"]


def test_get_gives_the_object_in_other_forms(kubectl: Kubectl) -> None:
    """As JSON, YAML, a path of it, or its name."""
    kubectl("create -f -", MODEL)
    assert json.loads(kubectl("get model smollm2 -o json"))["spec"]["backend"] == "llamacpp"
    assert "source: pvc://models/smollm2.gguf" in kubectl("get model smollm2 -o yaml")
    assert kubectl("get mdl -o jsonpath={.items[*].spec.source}") == "pvc://models/smollm2.gguf"
    assert kubectl("get mdl -o name") == "model.ai.flexinfer/smollm2"


def test_get_selects_by_labels_and_fields(kubectl: Kubectl) -> None:
    """Labels, the fields that the definition offers, and all namespaces."""
    kubectl("apply -f -", MODEL + "---" + MODEL.replace("smollm2", "other").replace("small", "large"))
    assert kubectl("get mdl -l size=large -o name") == "model.ai.flexinfer/other"
    assert kubectl("get mdl -l size!=large -o name") == "model.ai.flexinfer/smollm2"
    assert kubectl("get mdl --field-selector metadata.name=other -o name") == "model.ai.flexinfer/other"
    assert kubectl("get mdl --field-selector spec.backend=vllm -o name") == ""
    assert f"{kubectl.namespace} " in kubectl("get mdl -A")
    assert "field label not supported: spec.source" in kubectl.refused(
        "get mdl --field-selector spec.source=x"
    )


def test_nothing_found_is_said(kubectl: Kubectl) -> None:
    """By name as an error, in a list as a remark."""
    assert kubectl.run("get", "mdl").err == f"No resources found in {kubectl.namespace} namespace.\n"
    assert kubectl.refused("get mdl x") == 'Error from server (NotFound): models.ai.flexinfer "x" not found'
    assert kubectl.refused("get nonesuches") == (
        'error: the server doesn\'t have a resource type "nonesuches"'
    )


def test_explain_has_a_sentence_for_each_field(kubectl: Kubectl) -> None:
    """From the OpenAPI documents."""
    told = kubectl("explain model.spec.gpu")
    assert told.startswith(
        "GROUP:      ai.flexinfer\nKIND:       Model\nVERSION:    v1alpha2\n\nFIELD: gpu <Object>"
    )
    assert re.search(r"shared\t<string>\n    \S", told)
    assert "FIELD: containers <[]" in kubectl("explain pod.spec.containers")


def test_an_object_that_breaks_a_rule_is_refused_in_words(kubectl: Kubectl) -> None:
    """Types, enums, rules and unknown fields, each by its path."""
    unknown = kubectl.refused("apply -f -", MODEL + "  flavour: sweet\n")
    assert 'strict decoding error: unknown field "spec.flavour"' in unknown
    wrong = kubectl.refused("apply -f -", MODEL.replace("pvc://models/smollm2.gguf", "../../etc/passwd"))
    assert wrong.startswith('The Model "smollm2" is invalid:')
    assert "spec.source: Invalid value" in wrong


def test_describe_ends_in_the_events_that_tell_the_story(kubectl: Kubectl) -> None:
    """Events are found by the uid of what they are about."""
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
    told = kubectl("describe mdl smollm2")
    assert "Backend:  llamacpp" in told
    assert re.search(r"Normal  Placed  .*  flexinfer-placer  runs on local", told)
    assert columns(kubectl("get events"))[1][1:] == ["Normal", "Placed", "model/smollm2", "runs on local"]
    assert "runs on local" in kubectl("events --for model/smollm2")


def test_wait_returns_when_the_condition_is_there(server: ApiServer, kubectl: Kubectl) -> None:
    """Begun before, ended by the write; also for a path, and for deletion."""
    kubectl("create -f -", MODEL)
    waiting = kubectl.start("wait", "--for=condition=Ready", "mdl/smollm2", "--timeout=15s")
    deleting = kubectl.start("wait", "--for=delete", "mdl/smollm2", "--timeout=15s")
    set_status(server, kubectl.namespace, phase="Ready", conditions=ready())
    assert waiting.communicate(timeout=15)[0] == "model.ai.flexinfer/smollm2 condition met\n"
    assert kubectl("wait --for=jsonpath={.status.phase}=Ready mdl/smollm2 --timeout=5s")
    assert (
        kubectl("delete mdl smollm2")
        == f'model.ai.flexinfer "smollm2" deleted from {kubectl.namespace} namespace'
    )
    assert deleting.communicate(timeout=15)[1] == ""
    assert deleting.returncode == 0


def test_wait_gives_up_when_told(kubectl: Kubectl) -> None:
    """With its own words, at its own deadline."""
    kubectl("create -f -", MODEL)
    assert kubectl.refused("wait --for=condition=Ready mdl/smollm2 --timeout=300ms") == (
        "error: timed out waiting for the condition on models/smollm2"
    )


def test_a_watch_prints_a_line_for_each_change(server: ApiServer, kubectl: Kubectl) -> None:
    """The header once, then what becomes of it."""
    kubectl("create -f -", MODEL)
    watching = kubectl.start("get", "mdl", "-w")
    assert watching.stdout is not None
    first = [watching.stdout.readline() for _ in range(2)]
    set_status(server, kubectl.namespace, phase="Loading", conditions=ready())
    lines = [columns(line)[0] for line in (*first, watching.stdout.readline())]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=5)
    assert [line[:2] for line in lines] == [
        ["NAME", "PHASE"],
        ["smollm2", "llamacpp"],
        ["smollm2", "Loading"],
    ]


def test_a_pod_prints_as_people_know_it(kubectl: Kubectl) -> None:
    """A gated Pod, its default fields, and a log that it does not have yet."""
    kubectl("create -f -", POD)
    header, row = columns(kubectl("get pods"))
    assert header == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert row[:4] == ["waits", "0/1", "SchedulingGated", "0"]
    assert "Image:      example.com/engine:1" in kubectl("describe pod waits")
    assert kubectl("logs waits") == ""
    assert kubectl.refused("logs waits -c other") == (
        "error: container other is not valid for pod waits out of: engine"
    )


def test_a_namespace_goes_with_its_contents(kubectl: Kubectl) -> None:
    """Created by kubectl's typed client, deleted with what is in it."""
    name = f"{kubectl.namespace}-more"
    assert kubectl(f"create namespace {name}") == f"namespace/{name} created"
    kubectl(f"create configmap kept --from-literal=a=b -n {name}")
    assert columns(kubectl(f"get cm -n {name}"))[1][:2] == ["kept", "1"]
    assert kubectl(f"delete namespace {name}") == f'namespace "{name}" deleted'
    assert "not found" in kubectl.refused(f"get namespace {name}")
    assert kubectl.refused(f"create configmap late -n {name}") == (
        f'error: failed to create configmap: namespaces "{name}" not found'
    )


def test_a_definition_is_offered_at_once_and_explained(kubectl: Kubectl) -> None:
    """And its objects go with it."""
    kubectl("apply -f -", crd("widget"))
    assert kubectl("wait --for=condition=Established crd/widgets.example.com --timeout=5s")
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


def test_what_is_offered_can_be_listed(kubectl: Kubectl) -> None:
    """Kinds, versions and the server's own."""
    kinds = [line[0] for line in columns(kubectl("api-resources --no-headers -o wide"))]
    assert {"models", "pods", "jobs", "leases", "storageclasses", "customresourcedefinitions"} <= set(kinds)
    assert {"v1", "ai.flexinfer/v1alpha2", "batch/v1"} <= set(kubectl("api-versions").splitlines())
    assert "Server Version: v1.37" in kubectl("version")
    assert json.loads(kubectl("get --raw /api"))["versions"] == ["v1"]


def test_without_the_token_there_is_nothing(server: ApiServer, kubectl: Kubectl, tmp_path: Path) -> None:
    """Another user of the machine gets nothing, not even discovery."""
    stripped = json.loads(server.kubeconfig.read_bytes())
    stripped["users"][0]["user"] = {"token": "wrong"}
    (tmp_path / "kubeconfig").write_text(json.dumps(stripped))
    answer = kubectl.run("get", "mdl", "--kubeconfig", str(tmp_path / "kubeconfig"))
    assert answer.code == 1
    assert answer.err.endswith("error: You must be logged in to the server (Unauthorized)\n")
