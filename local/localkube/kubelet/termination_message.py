"""Termination: the last words of a container, as its status repeats them.

`terminationMessagePath` cannot exist for a process; the file beside its run stands for it and is named in the variable of mounts. A program that
does not look there is heard by its log: with `FallbackToLogsOnError`, after a failure, as in kubelet, the end of it; and, since the
path itself was not to be had, after a success its last line.
"""

from pathlib import Path

from localkube.kubelet.client import Object
from localkube.kubelet.volume_mounts import Mount

PATH = "/dev/termination-log"
_FROM_LOG, _FROM_FILE, _LINES = 2048, 4096, 80


def mount(container: Object, run: Path) -> Mount:
    """Return where the message of a run is to be written."""
    return Mount(str(container.get("terminationMessagePath") or PATH), str(run / "termination"))


def message(container: Object, run: Path, log: Path, *, failed: bool) -> str:
    """Return a run's last words; empty when it left none."""
    told = _end(run / "termination", _FROM_FILE)
    if told or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return told
    lines = _end(log, _FROM_LOG).splitlines()
    return "\n".join(lines[-_LINES if failed else -1 :])


def _end(path: Path, most: int) -> str:
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - most, 0))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return ""
