"""Folders of the user's cache of programs: filled beside their place and renamed, so that a half of one is never taken for the whole."""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from flexinfer.local.controlplane.programs import cache_folder


def place(name: str) -> Path:
    """Return the folder of a program, by a name that holds its version."""
    return cache_folder(os.environ) / name


def once(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of a program, filled unless it is there, by one process alone. Raises what `fill` raises, and leaves nothing then."""
    target = place(name)
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            _filled(target, fill)
    return target


def _filled(target: Path, fill: Callable[[Path], None]) -> None:
    draft = target.with_name(f"{target.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        fill(draft)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def script(path: Path, *lines: str) -> Path:
    """Write a program of the shell and return its path."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return path
