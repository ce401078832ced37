"""Run one service and restart it when its source changes: the entry point of the development image only.

`python reload.py flexinfer.placer [ARG...]` is `python -m flexinfer.placer` with a FLEXINFER_BUILD that is a hash of the source it runs.
Without RELOAD in its environment it is `python -m` and nothing more: a Job has to end. Looking often at the times of some two hundred files costs less than a dependency, and works on every file system.
"""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

SHARED, SERVICES = Path("/app/shared"), Path("/app/services")
LOOK_SECONDS = 0.3
GRACE_SECONDS = 10.0


def roots(module: str) -> tuple[Path, Path]:
    """Return the source folders of a service: the shared one and its own; a change in another service restarts nothing."""
    own = SERVICES.joinpath(*module.split(".")[:2])
    return SHARED, own if own.is_dir() else SERVICES


def sources(folders: tuple[Path, ...]) -> dict[str, int]:
    """Return every source file and when it was last changed."""
    changed: dict[str, int] = {}
    for root in folders:
        for folder, _, names in os.walk(root):
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)  # noqa: PTH118 -- thousands of times a minute
                    try:
                        changed[path] = os.stat(path).st_mtime_ns  # noqa: PTH116
                    except FileNotFoundError:
                        continue
    return changed


def build_of(files: dict[str, int]) -> str:
    """Return a hash of the files' contents."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(path.encode() + b"\0" + Path(path).read_bytes())
    return digest.hexdigest()[:12]


class Service:
    """The one child of this process."""

    def __init__(self, words: list[str]) -> None:
        self._words = words
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, build: str) -> None:
        """Start it."""
        print(f"reload: {self._words[0]}, build {build}", flush=True)
        # Python takes compiled code for that of a source of the same size that changed within the same second.
        environment = os.environ | {"FLEXINFER_BUILD": build, "PYTHONDONTWRITEBYTECODE": "1"}
        self._child = subprocess.Popen([sys.executable, "-m", *self._words], env=environment)

    def stop(self) -> None:
        """Stop it like a kubelet: SIGTERM, then SIGKILL after the grace period."""
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def ended(self) -> int | None:
        """Return its exit code once it has one."""
        return None if self._child is None else self._child.poll()


def main(words: list[str]) -> int:
    """Run until SIGTERM; after the service has ended on its own, wait for a change of its source."""
    if not os.environ.get("RELOAD"):
        os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606 -- no shell is needed
    service = Service(words)

    def leave(_number: int, _frame: FrameType | None) -> None:
        service.stop()
        sys.exit(0)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    folders = roots(words[0])
    current = sources(folders)
    service.start(build_of(current))
    reported = False
    while True:
        time.sleep(LOOK_SECONDS)
        seen = sources(folders)
        if seen != current:
            service.stop()
            current, reported = seen, False
            service.start(build_of(current))
        elif (code := service.ended()) is not None and not reported:
            print(f"reload: ended with {code}; waiting for a change", flush=True)
            reported = True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
