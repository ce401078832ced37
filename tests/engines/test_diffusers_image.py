"""The image of the server of images, built by the project's own tool and run as its user, with a random pipeline on the CPU.

For `make test-long` alone, as root with buildah: 3 GB to download, 5 minutes to build and 30 GB of disk meanwhile.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engines.installed import diffusers_server, folders
from tests.engines.installed.required import required
from tests.engines.program import GRACE_SECONDS, Program
from tests.engines.test_diffusers import IMAGES, SMALL, drawn, opened

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
TARGET = "diffusers-server"
IMAGE = f"localhost/flexinfer/{TARGET}:tested"
DISK_GB = 30
INSIDE = Path("/models/tiny")


def tool(*words: str) -> None:
    """Run the program that builds images."""
    command = [sys.executable, "deploy/image/build.py", "--engine", "buildah", *words]
    subprocess.run(command, cwd=ROOT, check=True)


def buildah(*words: str) -> str:
    """Run buildah and return what it prints."""
    done = subprocess.run(["buildah", *words], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def server_of(program: Program) -> int:
    """Return the pid of the container's first process: buildah would not pass a signal on."""
    lines = {pid: Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") for pid in program.left()}
    [pid] = [pid for pid, words in lines.items() if words[0].endswith(b"/python")]
    return pid


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    """Build the image and make a container of it; skips where that cannot be done."""
    required("diffusers", diffusers_server.python)
    if not shutil.which("buildah") or os.geteuid() != 0:
        pytest.skip("the image of diffusers: not built; it needs buildah, and root")
    if shutil.disk_usage("/var/lib/containers").free < DISK_GB << 30:
        pytest.skip(f"the image of diffusers: not built; it needs {DISK_GB} GB of disk")
    tool("fetch", TARGET)
    tool("build", TARGET, "--tag", IMAGE)
    name = buildah("from", "--pull-never", IMAGE)
    yield name
    buildah("rm", name)


@pytest.fixture(scope="module")
def engine(container: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """Return the server in its container, with the variables of a Model, and ready."""
    pipeline = tmp_path_factory.mktemp("pipeline") / "tiny"
    shutil.copytree(diffusers_server.tiny_pipeline(), pipeline)
    for path in (
        pipeline,
        *pipeline.rglob("*"),
    ):  # the container's user is another one than that of this test
        path.chmod(0o755 if path.is_dir() else 0o644)
    folder = tmp_path_factory.mktemp("container")
    names = ("MODEL", "MODEL_ID", "SERVED_MODEL_NAME", "HOST", "PORT", "DEVICE", "OMP_NUM_THREADS")
    line = [
        *("exec buildah run --isolation chroot", f"--volume {pipeline}:{INSIDE}:ro"),
        *(f'--env "{name}=${name}"' for name in names),
        f"{container} -- python -m flexinfer.image_server",
    ]
    script = folders.script(folder / "server", " ".join(line))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLEXINFER_PROGRAM_DIFFUSERS", str(script))
        program = Program("diffusers", INSIDE, folder)
        program.environment |= {"OMP_NUM_THREADS": "1"}
        yield program.start().ready()
        program.end()


def test_the_image_starts_as_its_user_and_says_what_it_is(container: str) -> None:
    """Its entry point is the server, which is not root."""
    config: dict[str, Any] = json.loads(buildah("inspect", container))["OCIv1"]["config"]
    assert config["Entrypoint"] == ["python", "-m", "flexinfer.image_server"]
    assert config["User"] == "65532:65532"


def test_the_image_draws(engine: Program) -> None:
    """With the torch of NVIDIA's GPUs, on the CPU."""
    assert engine.healthy()
    assert [opened(image).size for image in drawn(engine)] == [(64, 64)]


def test_the_image_refuses_what_the_server_refuses(engine: Program) -> None:
    """It holds the code that is here."""
    code, body = engine.ask(IMAGES, SMALL | {"num_inference_steps": 1000})
    assert (code, body["error"]["param"]) == (400, "num_inference_steps")


def test_the_image_ends_within_the_grace_period(engine: Program) -> None:
    """Its first process is the server."""
    os.kill(server_of(engine), signal.SIGTERM)
    assert engine.code(GRACE_SECONDS) == 0
    assert not engine.healthy()
