"""The resources of the simulation: the built-ins and the CRD, read once."""

import functools
from pathlib import Path
from typing import Any

import yaml

from localkube.apiserver.builtin_resources import builtin_registry
from localkube.apiserver.registry import Registry

CRD = Path(__file__).resolve().parents[2] / "crds" / "models.yaml"


@functools.cache
def _crd() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(CRD.read_text())
    return found


@functools.cache
def registry() -> Registry:
    """Return the registry; it holds no objects, so all worlds share it."""
    made = builtin_registry()
    made.install(_crd())
    return made
