"""An image as a registry keeps it: its layers, each a tar, whatever engine built it."""

import contextlib
import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


class MissingImageError(Exception):
    """An image that is not on this machine; the message says what makes it."""


@contextlib.contextmanager
def layers(program: str, image: str) -> Iterator[Sequence[Path]]:
    """Give the files of an image's layers, lowest first; they go with the context. MissingImageError when there is no such image."""
    with tempfile.TemporaryDirectory() as folder:
        _export(program, image, folder)
        yield listed(Path(folder))


def listed(folder: Path) -> Sequence[Path]:
    """Return the layers of the one image of an OCI layout, lowest first."""
    blobs = folder / "blobs" / "sha256"

    def blob(digest: str) -> Path:
        return blobs / digest.partition(":")[2]

    index = json.loads((folder / "index.json").read_text())
    manifest = json.loads(blob(index["manifests"][0]["digest"]).read_text())
    return [blob(layer["digest"]) for layer in manifest["layers"]]


def unpacked(layer: Path) -> bytes:
    """Return the tar of a layer."""
    found = layer.read_bytes()
    return gzip.decompress(found) if found[:2] == b"\x1f\x8b" else found


def _export(program: str, image: str, folder: str) -> None:
    saves = program == "docker"
    words = ["docker", "save", image] if saves else ["buildah", "push", "--quiet", image, f"oci:{folder}"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise MissingImageError(f"no image {image} to read ({said}): `make images` builds it")
    if saves:
        subprocess.run(["tar", "-x", "-C", folder], input=done.stdout, check=True)
