"""Termination message: the message of a container's terminated state.

`terminationMessagePath` cannot exist for a process: a file beside the run takes its place, and the variable of mounts names it. A program
that does not read that variable leaves its message in its log: with `FallbackToLogsOnError`, after a failure, as in kubelet, the end of
the log; and, since the path did not exist for it, after a success the last line.
"""

from pathlib import Path

from localkube.kubelet.client import Object
from localkube.kubelet.volume_mounts import Mount

PATH = "/dev/termination-log"
NODE_SHUTDOWN: Object = {
    "reason": "NodeShutdown",
    "message": "Pod was terminated in response to imminent node shutdown.",
}
"""Of a container that the node itself stopped and restarts: kubelet's text of a graceful node shutdown (nodeshutdown_manager.go).

kubelet writes it into the Pod, which is then Failed; here the Pod stays, and its container restarts.
"""
_FROM_LOG, _FROM_FILE, _LINES = 2048, 4096, 80


def mount(container: Object, run: Path) -> Mount:
    """Return where the message of a run is to be written."""
    return Mount(str(container.get("terminationMessagePath") or PATH), str(run / "termination"))


def message(container: Object, run: Path, log: Path, *, failed: bool) -> str:
    """Return the message of a run; empty if it left none."""
    text = _end(run / "termination", _FROM_FILE)
    if text or container.get("terminationMessagePolicy") != "FallbackToLogsOnError":
        return text
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
