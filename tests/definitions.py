"""The CRD of this repository, a registry that serves it, and a minimal Model, for tests of definitions."""

from functools import cache
from pathlib import Path
from typing import Any

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Object, Resource
from localkube.yaml_documents import documents

ROOT = Path(__file__).resolve().parents[1]
MODELS = Resource(
    "ai.flexinfer",
    "v1alpha2",
    "models",
    "Model",
    namespaced=True,
    singular="model",
    short_names=("mdl",),
    categories=("ai",),
    subresources=frozenset({"status"}),
)

LEASES = Resource(
    "ai.flexinfer",
    "v1alpha2",
    "gpuleases",
    "GPULease",
    namespaced=True,
    singular="gpulease",
    short_names=("gl",),
    subresources=frozenset({"status"}),
)


def _definition(plural: str) -> Object:
    definition: Object
    (definition,) = documents((ROOT / "crds" / f"{plural}.yaml").read_text())
    return definition


@cache
def the_crd() -> Object:
    """Return the CustomResourceDefinition of Model from crds/models.yaml."""
    return _definition("models")


@cache
def the_group_crd() -> Object:
    """Return the CustomResourceDefinition of SharedGroup."""
    return _definition("sharedgroups")


@cache
def the_lease_crd() -> Object:
    """Return the CustomResourceDefinition of GPULease."""
    return _definition("gpuleases")


def the_crds() -> tuple[Object, ...]:
    """Return every CustomResourceDefinition of this repository."""
    return the_crd(), the_group_crd(), the_lease_crd()


@cache
def a_registry() -> Registry:
    """Return a registry that serves Models, SharedGroups and GPULeases."""
    registry = builtin_registry()
    for crd in the_crds():
        registry.install(crd)
    return registry


def a_plain_model(name: str = "llama", **spec: Any) -> Object:
    """Return a minimal Model, with `spec` merged into its spec."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"} | spec,
    }
