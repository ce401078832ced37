"""The vocabulary of tests about definitions: the registry with the CRD of this repository, and the least of a Model."""

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


@cache
def the_crd() -> Object:
    """Return the definition of Model as it stands in the repository."""
    crd: Object = yaml.safe_load((ROOT / "crds" / "models.yaml").read_text())
    return crd


@cache
def a_registry() -> Registry:
    """Return a registry that offers Models."""
    registry = builtin_registry()
    registry.install(the_crd())
    return registry


def a_plain_model(name: str = "llama", **spec: Any) -> Object:
    """Return the least of a Model, with more of its spec as given."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"} | spec,
    }
