"""The objects that `kubectl kustomize` builds from deploy/, with the kubectl of this environment."""

import copy
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from localkube.yaml_documents import documents

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
OVERLAYS = sorted(path.parent.name for path in (DEPLOY / "overlays").glob("*/kustomization.yaml"))
FOLDERS = ("base", ".", *(f"overlays/{name}" for name in OVERLAYS))
"""Every folder for `kubectl apply -k deploy/...`, except deploy/serving, which needs `-n NAMESPACE`."""
WORKLOADS = ("Deployment", "DaemonSet", "StatefulSet", "Job")

Object = dict[str, Any]


@cache
def built(folder: str) -> str:
    """Return what `kubectl kustomize deploy/<folder>` prints."""
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    words = [kubectl, "kustomize", str(DEPLOY / folder)]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@cache
def _parsed(folder: str) -> list[Object]:
    return documents(built(folder))


def objects(folder: str) -> list[Object]:
    """Return a copy of the objects of a folder; a test may change it."""
    return copy.deepcopy(_parsed(folder))


def workloads(manifests: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield name and Pod spec of every object that creates Pods."""
    for obj in manifests:
        if obj["kind"] in WORKLOADS:
            yield obj["metadata"]["name"], obj["spec"]["template"]["spec"]


def key(obj: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return kind, namespace and name."""
    meta = obj["metadata"]
    return obj["kind"], meta.get("namespace", ""), meta["name"]
