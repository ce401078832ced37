"""The CRD of this repository, a registry that serves it, and a minimal Model, for tests of definitions."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.registry import Registry
from localkube.apiserver.resources import Object, Resource

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


@cache
def the_crd() -> Object:
    """Return the CustomResourceDefinition of Model from crds/models.yaml."""
    crd: Object = yaml.safe_load((ROOT / "crds" / "models.yaml").read_text())
    return crd


@cache
def the_group_crd() -> Object:
    """Return the CustomResourceDefinition of SharedGroup."""
    crd: Object = yaml.safe_load((ROOT / "crds" / "sharedgroups.yaml").read_text())
    return crd


@cache
def the_lease_crd() -> Object:
    """Return the CustomResourceDefinition of GPULease."""
    crd: Object = yaml.safe_load((ROOT / "crds" / "gpuleases.yaml").read_text())
    return crd


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
