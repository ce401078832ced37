"""The demo with a real engine: apply, answer, scale to zero, cold start."""

import subprocess
from pathlib import Path

import pytest

from tests.instance import BIN

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def test_the_demo_answers_scales_to_zero_starts_again_and_leaves_nothing_behind(api: str) -> None:
    """The same command as `make demo API=...`."""
    done = subprocess.run(
        [BIN / "flexinfer", "demo", "--api", api],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    words = [
        line.split()[1] for line in done.stdout.splitlines() if line[:6].strip().replace(".", "").isdigit()
    ]
    assert words[:6] == ["starting", "started", "applied", "ready", "asking", "answer"]
    assert words[6:8] == ["patched", "idle"]
    assert "starting" in words[8:]
    assert words[-1] == "stopped"
    assert done.stdout.count("Paris") == 2
    assert "History of smollm2:" in done.stdout
