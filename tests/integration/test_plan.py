"""What `flexinfer plan` learns from an API server before it places anything: a dry run of each Model, and its PVC."""

import argparse
import asyncio
from pathlib import Path

import pytest

from flexinfer.cli.admission import Answers, answers
from flexinfer.cli.plan import documents_in
from tests.apiserver import LocalApi

pytestmark = pytest.mark.integration
MODEL = """
apiVersion: ai.flexinfer/v1alpha2
kind: Model
metadata: {name: one, namespace: planned, resourceVersion: "1", managedFields: []}
spec:
  backend: llamacpp
  source: pvc://weights/one.gguf
  gpu: {vendor: nvidia, vramEstimateMB: 5000}
status: {phase: Ready}
"""


@pytest.fixture(scope="module")
def namespace(local_api: LocalApi) -> str:
    """Return a namespace that exists."""
    local_api.make_namespace("planned")
    return "planned"


def asked(api: LocalApi, tmp_path: Path, text: str, kubeconfig: str = "") -> Answers:
    """Return what is answered about the Models of a file."""
    (tmp_path / "models.yaml").write_text(text)
    options = argparse.Namespace(kubeconfig=kubeconfig or str(api.kubeconfig), state=None, context="")
    return asyncio.run(answers(options, documents_in(str(tmp_path / "models.yaml"), "planned")))


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("vramEstimateMB: 5000", "vramEstimateMB: -5", "spec.gpu.vramEstimateMB"),
        ("vramEstimateMB: 5000", "vramEstimate: 5000", "vramEstimate"),
        ("apiVersion: ai.flexinfer/v1alpha2", "apiVersion: ai.flexinfer/v9", "v9"),
        ("namespace: planned", "namespace: nowhere", "nowhere"),
    ],
)
def test_what_apply_would_refuse_is_refused(
    local_api: LocalApi, namespace: str, tmp_path: Path, old: str, new: str, cause: str
) -> None:
    """With the words of the API server, and nothing is created."""
    refusals = asked(local_api, tmp_path, MODEL.replace(old, new)).refusals
    (message,) = refusals.values()
    assert message.startswith("would be refused by the API server: ")
    assert cause in message
    assert local_api.get(f"/apis/ai.flexinfer/v1alpha2/namespaces/{namespace}/models")["items"] == []


def test_a_pvc_that_does_not_exist_is_named_with_the_remedy(
    local_api: LocalApi, namespace: str, tmp_path: Path
) -> None:
    """Once it exists, nothing is refused."""
    refusals = asked(local_api, tmp_path, MODEL).refusals
    assert refusals["planned/one"].startswith(
        "would not start: PersistentVolumeClaim weights does not exist in namespace planned. Remedy: create it"
    )
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "weights"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    local_api.create(f"/api/v1/namespaces/{namespace}/persistentvolumeclaims", claim)
    assert asked(local_api, tmp_path, MODEL) == Answers()


def test_a_model_that_exists_is_checked_as_its_successor(
    local_api: LocalApi, namespace: str, tmp_path: Path
) -> None:
    """What the one before had and the file has not does not count."""
    path = f"/apis/ai.flexinfer/v1alpha2/namespaces/{namespace}/models"
    spec = {
        "backend": "llamacpp",
        "source": "pvc://weights/one.gguf",
        "gpu": {"vendor": "nvidia", "count": 1},
    }
    before = {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "there"},
        "spec": spec,
    }
    local_api.create(path, before)
    after = MODEL.replace("name: one", "name: there").replace(
        "vendor: nvidia, vramEstimateMB: 5000", "vendor: cpu"
    )
    assert "refused" not in asked(local_api, tmp_path, after).refusals.get("planned/there", "")
    negative = MODEL.replace("name: one", "name: there").replace("5000", "-5")
    assert "spec.gpu.vramEstimateMB" in asked(local_api, tmp_path, negative).refusals["planned/there"]
    assert local_api.get(f"{path}/there")["spec"]["gpu"]["count"] == 1


def test_an_api_server_that_is_not_reached_refuses_nothing(local_api: LocalApi, tmp_path: Path) -> None:
    """It is said instead."""
    unreached = asked(local_api, tmp_path, MODEL, str(tmp_path / "none"))
    assert (dict(unreached.refusals), bool(unreached.unasked)) == ({}, True)
