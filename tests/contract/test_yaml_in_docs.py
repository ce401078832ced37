"""What users copy: every example and every YAML of the documentation is admitted by the CRD and accepted by the watcher's rules."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from flexinfer.api.groupversion import API_VERSION, GROUP_KIND, LEASE_KIND
from flexinfer.api.model import Model, ModelSpec
from flexinfer.watcher.accepted import accepted
from tests.definitions import MODELS, ROOT, a_plain_model, a_registry

_BLOCK = re.compile(r"^```yaml\n(.*?)^```|<<'?EOF'?\n(.*?)^EOF", re.MULTILINE | re.DOTALL)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml")) + sorted((ROOT / "examples" / "local").glob("*.yaml"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SPEC = {field.encode_name for field in msgspec.structs.fields(ModelSpec)}
NO_MODEL = (
    "Gateway",
    "HTTPRoute",
    "Ingress",
    "Kustomization",
    "NetworkPolicy",
    "Pod",
    "PodMonitor",
    "Service",
    GROUP_KIND,
    LEASE_KIND,
)
"""Kinds of documents that are no Models."""


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the YAML documents of an example or of a page."""
    text = path.read_text()
    blocks = [text] if path.suffix == ".yaml" else [one or two for one, two in _BLOCK.findall(text)]
    for block in blocks:
        for document in yaml.safe_load_all(block):
            if isinstance(document, dict):
                yield document


def whole(document: dict[str, Any]) -> dict[str, Any] | None:
    """Return the Model that a document is, or is a part of; None if it is something else."""
    if document.get("kind") == "Model":
        return document
    if document.keys() <= SPEC:
        document = {"spec": document}
    if "kind" in document or not document.keys() <= {"spec", "metadata"}:
        return None
    plain = a_plain_model()
    return {
        **plain,
        "metadata": plain["metadata"] | document.get("metadata", {}),
        "spec": plain["spec"] | document.get("spec", {}),
    }


MODELS_SHOWN = [
    (path, number, model)
    for path in (*EXAMPLES, *PAGES)
    for number, document in enumerate(documents(path))
    if (model := whole(document)) is not None
]


@pytest.mark.parametrize(
    "model",
    [m for _, _, m in MODELS_SHOWN],
    ids=[f"{path.relative_to(ROOT)}-{number}" for path, number, _ in MODELS_SHOWN],
)
def test_a_model_that_users_copy_is_accepted(model: dict[str, Any]) -> None:
    """By the CRD, strictly, and by the rules of its backend."""
    stored = a_registry().admit(MODELS, model, None, validation="Strict").obj
    condition = accepted(msgspec.convert(stored, Model))
    assert (condition.status, condition.message.partition(";")[0]) == ("True", "the spec is valid")


def test_every_example_is_looked_at() -> None:
    """And most pages that show a Model."""
    looked_at = {path for path, _, _ in MODELS_SHOWN}
    assert {path for path in EXAMPLES if path.name != "game.yaml"} <= looked_at  # that one is a GPULease
    assert len(looked_at - set(EXAMPLES)) >= 4


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_whatever_else_a_page_shows_is_of_a_known_kind(path: Path) -> None:
    """A misspelt Model would be taken for something else, and for nothing of ours."""
    for document in documents(path):
        if whole(document) is None:
            kind = document.get("kind")
            assert kind in NO_MODEL or (kind is None and "spec" not in document), document
            assert document.get("apiVersion") != API_VERSION or kind in (GROUP_KIND, LEASE_KIND)
