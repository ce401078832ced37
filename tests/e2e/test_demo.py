"""The whole road with a real engine: apply, answer, sleep, wake."""

import subprocess
from pathlib import Path

import pytest

from tests.instance import BIN

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def test_the_demo_answers_sleeps_wakes_and_leaves_nothing_behind(api: str) -> None:
    """`make demo API=...` runs exactly this."""
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
        line.split()[2] for line in done.stdout.splitlines() if line[:6].strip().replace(".", "").isdigit()
    ]
    assert words[:6] == ["starting", "started", "applied", "ready", "asking", "answer"]
    assert words[6:8] == ["patched", "asleep"]
    assert "waking" in words
    assert words[-1] == "stopped"
    assert done.stdout.count("Paris") == 2
    assert "The history of smollm2" in done.stdout
