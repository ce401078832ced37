"""Which runs use the engines of this folder: `make test-long` alone, so that `make test` is the same on each machine."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

CHOSEN = os.environ.get("FLEXINFER_ENGINES") == "all"


def required(name: str, program: Callable[[], Path | None]) -> Path:
    """Return the path of an engine's program; skips the tests that need it where it is not to run, or not installed."""
    if not CHOSEN:
        pytest.skip(f"{name}: not run (FLEXINFER_ENGINES=all, or make test-long)")
    path = program()
    if path is None:
        pytest.skip(f"{name}: not installed (python -m tests.engines.installed {name}); not run")
    return path
