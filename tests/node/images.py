"""The images of a test cluster in its registry: those of deploy/image/build.py, and the pause image."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.node import network
from tests.node.layout import FIRST, REGISTRY

ROOT = Path(__file__).resolve().parents[2]
_BUILDER = ROOT / "deploy" / "image" / "build.py"
_PAUSE = ROOT / "deploy" / "image" / "pause.py"
_QUIET = ("--quiet", "--isolation", "chroot", "--timestamp", "0", "--pull-never")


class ImageError(Exception):
    """An image cannot be built or pushed; the message has the reason."""


def push_pause() -> None:
    """Build and push the pause image, whose process keeps the namespaces of a Pod."""
    _run(*network.command(FIRST), sys.executable, str(_PAUSE), "--registry", REGISTRY)


def push_foreign(name: str, folder: Path, platform: str) -> None:
    """Push an image index with a single image for another platform."""
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    listed = "localhost/flexinfer/foreign"
    _run("sh", "-c", f"buildah manifest rm {listed} >/dev/null 2>&1 || true")
    _run("buildah", "bud", *_QUIET, "--platform", platform, "--manifest", listed, str(folder))
    push = ("buildah", "manifest", "push", "--all", "--tls-verify=false", listed, f"docker://{name}")
    _run(*network.command(FIRST), *push)


def push_folder(name: str, folder: Path) -> None:
    """Build and push the image of a folder's Dockerfile."""
    _run("buildah", "bud", *_QUIET, "--tag", name, str(folder))
    push = ("buildah", "push", "--quiet", "--tls-verify=false", name)
    _run(*network.command(FIRST), *push)


def push_product(targets: Sequence[str], version: str) -> None:
    """Build and push the images of FlexInfer; `make images` has downloaded their inputs before."""
    command = (
        *network.command(FIRST),
        sys.executable,
        str(_BUILDER),
        "--engine",
        "buildah",
        "build",
        *targets,
    )
    _run(*command, "--registry", REGISTRY, "--version", version, "--push")


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        last = (done.stdout + done.stderr)[-2000:].strip()
        raise ImageError(f"`{' '.join(words[:6])} ...` ended with {done.returncode}:\n{last}")
