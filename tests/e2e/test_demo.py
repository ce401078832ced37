"""The demo with a real engine: apply, answer, scale to zero, cold start, and a download whose progress is seen."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.instance import BIN
from tests.patience import patient

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
PROGRESS = ("cache", "tap")
"""What the lines begin with that show how far the download is."""


def test_the_demo_answers_scales_to_zero_starts_again_and_leaves_nothing_behind(api: str) -> None:
    """The same command as `make demo API=...`."""
    done = subprocess.run(
        [BIN / "flexinfer", "demo", "--api", api],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(280),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if line[:6].strip().replace(".", "").isdigit()]
    words = [line.split()[1] for line in lines if line.split()[1] not in PROGRESS]
    assert words[:7] == ["starting", "started", "applied", "applied", "ready", "asking", "answer"]
    assert words[7:9] == ["patched", "idle"]
    assert "starting" in words[9:]
    assert words[-2:] == ["ready", "stopped"]
    assert done.stdout.count("Paris") == 2
    assert "History of smollm2:" in done.stdout
    for word in PROGRESS:
        moved = [int(m[1]) for line in lines if (m := re.search(rf"  {word} .*?(\d+)% of 98 MB", line))]
        assert len(set(moved)) > 1, done.stdout
        assert moved == sorted(moved)
        assert any(" left" in line for line in lines if line.split()[1] == word), done.stdout
