"""An image as a registry stores it: its layers, each a tar, whichever engine built it."""

import contextlib
import gzip
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


class MissingImageError(Exception):
    """The image is not on this machine; the message names the command that builds it."""


@contextlib.contextmanager
def layers(program: str, image: str) -> Iterator[Sequence[Path]]:
    """Yield the files of an image's layers, lowest first; they are removed with the context. Raises MissingImageError."""
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
    content = layer.read_bytes()
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def _export(program: str, image: str, folder: str) -> None:
    saves = program == "docker"
    words = ["docker", "save", image] if saves else ["buildah", "push", "--quiet", image, f"oci:{folder}"]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        stderr = done.stderr.decode(errors="replace").strip()
        raise MissingImageError(f"no image {image} to read ({stderr}): `make images` builds it")
    if saves:
        subprocess.run(["tar", "-x", "-C", folder], input=done.stdout, check=True)
