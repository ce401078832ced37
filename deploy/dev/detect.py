"""Print what the Tiltfile can use, as JSON: `python deploy/dev/detect.py`. It changes nothing.

engine    docker where its daemon answers, else buildah
registry  localhost:5000 where a registry answers there: the names of the images then need no other
"""

import json
import shutil
import subprocess
import urllib.request

REGISTRY = "localhost:5000"


def engine() -> str:
    """Return the builder of images, or nothing."""
    if (
        shutil.which("docker")
        and subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0
    ):
        return "docker"
    return "buildah" if shutil.which("buildah") else ""


def registry() -> str:
    """Return the registry of this machine, or nothing."""
    try:
        with urllib.request.urlopen(f"http://{REGISTRY}/v2/", timeout=2):
            return REGISTRY
    except OSError:
        return ""


if __name__ == "__main__":
    print(json.dumps({"engine": engine(), "registry": registry()}))
