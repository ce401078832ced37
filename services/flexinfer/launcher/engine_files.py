"""Small files that a backend gives its engine: annotations of the Pod, which a downwardAPI volume shows in its container. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from flexinfer.api.labels import FILE_PREFIX
from flexinfer.backends.base import FILES

Json = dict[str, Any]
_VOLUME = "files"


def annotations(files: Mapping[str, str]) -> dict[str, str]:
    """Return the annotations that hold these files."""
    return {f"{FILE_PREFIX}{name}": text for name, text in files.items()}


def volumes(files: Iterable[str]) -> list[Json]:
    """Return the volume of these files; none without files."""
    items = [
        {"path": name, "fieldRef": {"fieldPath": f"metadata.annotations['{FILE_PREFIX}{name}']"}}
        for name in files
    ]
    return [{"name": _VOLUME, "downwardAPI": {"items": items}}] if items else []


def mounts(files: Mapping[str, str]) -> list[Json]:
    """Return its mount."""
    return [{"name": _VOLUME, "mountPath": FILES, "readOnly": True}] if files else []
