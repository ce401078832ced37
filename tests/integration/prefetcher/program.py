"""Runs the program of the download Job against a hub on loopback, as the Job does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from flexinfer.sources.base import Files
from tests.integration.prefetcher.hub import REPOSITORY, Hub
from tests.patience import patient


def arguments(into: Path, *options: str, **selection: Any) -> list[str]:
    """Return the command of a download; `selection` are the fields of Files."""
    files = Files(**({"repository": REPOSITORY} | selection))
    return [
        sys.executable, "-m", "flexinfer.prefetcher.download",
        "--files", msgspec.json.encode(files).decode(), "--into", str(into), *options,
    ]  # fmt: skip


def environment(hub: Hub, into: Path, **variables: str) -> dict[str, str]:
    """Return the environment of a download."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(into.parent),
        "HF_ENDPOINT": hub.address,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        **variables,
    }


def downloaded(
    hub: Hub, into: Path, *options: str, variables: dict[str, str] | None = None, **selection: Any
) -> tuple[int, dict[str, Any]]:
    """Run a download to its end; returns its exit code and its report."""
    done = subprocess.run(
        arguments(into, *options, **selection), env=environment(hub, into, **(variables or {})),
        capture_output=True, text=True, timeout=patient(120), check=False,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def elsewhere(hub: Hub) -> dict[str, str]:
    """Give hub and CDN an address that is not loopback to the rules of a proxy; returns variables that name the hub as proxy."""
    proxy = hub.address
    hub.address, hub.cdn = (address.replace("127.0.0.1", "0.0.0.0") for address in (hub.address, hub.cdn))
    return {"HTTP_PROXY": proxy, "http_proxy": proxy}


def started(hub: Hub, into: Path, *options: str, **selection: Any) -> subprocess.Popen[bytes]:
    """Start a download."""
    return subprocess.Popen(
        arguments(into, *options, **selection), env=environment(hub, into),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def killed(hub: Hub, into: Path, size: int, *options: str, **selection: Any) -> None:
    """Start a download and kill it once so many bytes have been sent in all; none but those on their way are sent before it is dead."""
    hub.hold_after(size)
    process = started(hub, into, *options, **selection)
    try:
        hub.wait_sent(size)
    finally:
        process.kill()
        process.wait()
        hub.release()


def names(folder: Path) -> set[str]:
    """Return the names in a folder, except the manifest."""
    return {path.name for path in folder.iterdir() if path.name != ".flexinfer.json"}
