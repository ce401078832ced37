"""Build the sandbox image of Pods, for a node that reaches no registry but its own: `python deploy/image/pause.py`.

The container runtime of such a node names it (`sandbox_image`); the product does not use it. Needs buildah and gcc.
"""

import argparse
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "local" / "node" / "pause" / "pause.c"
RECIPE = 'FROM scratch\nCOPY pause /pause\nENTRYPOINT ["/pause"]\n'
NAME, VERSION = "pause", "1"


def exists(registry: str) -> bool:
    """Return whether the registry has it."""
    try:
        with urllib.request.urlopen(f"http://{registry}/v2/{NAME}/tags/list", timeout=5):
            return True
    except urllib.error.HTTPError:
        return False


def push(registry: str) -> None:
    """Build and push it."""
    tag = f"{registry}/{NAME}:{VERSION}"
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(RECIPE)
        _run("gcc", "-Os", "-static", "-s", "-o", f"{folder}/pause", str(SOURCE))
        _run("buildah", "bud", "--quiet", "--isolation", "chroot", "--timestamp", "0", "--tag", tag, folder)
    _run("buildah", "push", "--quiet", "--tls-verify=false", tag)


def _run(*words: str) -> None:
    done = subprocess.run(words, check=False)
    if done.returncode:
        sys.exit(f"pause: `{' '.join(words[:4])} ...` ended with {done.returncode}")


def main() -> None:
    """Build and push it unless the registry has it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--registry", default="localhost:5000")
    given = parser.parse_args()
    if not exists(given.registry):
        push(given.registry)


if __name__ == "__main__":
    main()
