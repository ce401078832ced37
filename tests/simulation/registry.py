"""The resources of the simulation: the built-in kinds and the CRD, loaded once."""

import functools
from pathlib import Path
from typing import Any

import yaml

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.registry import Registry

CRD = Path(__file__).resolve().parents[2] / "crds" / "models.yaml"


@functools.cache
def _crd() -> dict[str, Any]:
    crd: dict[str, Any] = yaml.safe_load(CRD.read_text())
    return crd


@functools.cache
def registry() -> Registry:
    """Return the registry; it has no objects, so all simulations share it."""
    shared = builtin_registry()
    shared.install(_crd())
    return shared
