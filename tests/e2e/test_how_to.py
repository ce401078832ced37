"""The pages on serving a model, run as they are written: every `bash` block, one after the other, in one shell on a running instance."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from flexinfer.local.supervisor.provisioning import small_model
from tests.engines.installed import diffusers_server
from tests.instance import BIN, Running, instance
from tests.integration.prefetcher.hub import served
from tests.patience import patient

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
PAGES = Path(__file__).resolve().parents[2] / "docs" / "how-to"
_BLOCK = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = patient(300)


def script(page: str) -> str:
    """Return the commands of a page."""
    blocks = _BLOCK.findall((PAGES / f"{page}.md").read_text())
    assert len(blocks) > 2
    return "set -eu\n" + "\n".join(blocks)


def follow(running: Running, page: str, folder: Path, **variables: str) -> str:
    """Run a page in a folder; returns what it printed."""
    environment = running.environment() | variables | {"FLEXINFER_STATE": str(running.state)}
    environment["PATH"] = f"{BIN}:{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script(page)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def gguf(api: str) -> Path:
    """Return a small model."""
    if api != "local":
        pytest.skip("once is enough")
    path = small_model()
    if path is None:
        pytest.skip("no small model is installed")
    return path


@pytest.fixture
def running(tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """Return an instance whose hub has the repository of the page."""
    with served() as hub:
        hub.repository = "Qwen/Qwen2.5-0.5B-Instruct-GGUF"
        hub.files = {"qwen2.5-0.5b-instruct-q4_k_m.gguf": gguf.read_bytes()}
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        with instance(tmp_path / "state") as one:
            yield one


def test_my_own_gguf_and_one_from_hugging_face_are_served(
    running: Running, gguf: Path, tmp_path: Path
) -> None:
    """One after the other: the second page deletes its Model at its end."""
    own = follow(running, "serve-my-own-gguf", tmp_path, GGUF=str(gguf))
    assert "my-model condition met" in own
    assert '"completion_tokens"' in own
    hub = follow(running, "serve-from-hugging-face", tmp_path)
    assert hub.count("qwen condition met") == 2
    assert '"qwen" deleted' in hub


def test_an_image_model_is_served(api: str, tmp_path: Path) -> None:
    """The image that the page writes is one."""
    if api != "local":
        pytest.skip("once is enough")
    programs = tmp_path / "programs"
    programs.mkdir()
    diffusers_server.program(programs)
    pipeline = diffusers_server.tiny_pipeline()
    with instance(tmp_path / "state", programs=programs) as running:
        printed = follow(running, "serve-an-image-model", tmp_path, PIPELINE=str(pipeline))
    with Image.open(tmp_path / "cube.png") as image:
        assert image.size == (32, 32)
    assert ": step 4 of 4" in printed
    assert "event: image_generation.completed" in printed
