"""The resources of the simulation: the built-in kinds and the CRDs, loaded once."""

import functools
from pathlib import Path
from typing import Any

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.registry import Registry
from localkube.yaml_documents import documents

CRDS = Path(__file__).resolve().parents[2] / "crds"


@functools.cache
def _crds() -> list[dict[str, Any]]:
    files = sorted(CRDS.glob("[a-z]*.yaml"))
    return [document for file in files for document in documents(file.read_text())]


@functools.cache
def registry() -> Registry:
    """Return the registry; it has no objects, so all simulations share it."""
    shared = builtin_registry()
    for crd in _crds():
        shared.install(crd)
    return shared
