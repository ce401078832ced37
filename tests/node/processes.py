"""The processes of a test cluster, which outlive the command that starts them: pid and start time identify them."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import msgspec

from localkube import process_identity
from localkube.process_identity import Identity
from tests.node import view
from tests.node.layout import Layout
from tests.node.parts import Part
from tests.node.waiting import until

MARK = "FLEXINFER_TEST_CLUSTER"
"""The environment variable of every process of a cluster: the cluster's folder."""
_GRACE_SECONDS = 20.0


def start(layout: Layout, part: Part, environment: Mapping[str, str]) -> None:
    """Start a part unless it already runs; its output goes to its log."""
    if running(layout, part.name):
        return
    words = (*view.command(layout, part.machine), *part.argv)
    with layout.log(part.name).open("ab") as log:
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**environment, MARK: str(layout.root)},
        )
    identity = process_identity.identify(child.pid)
    assert identity is not None, f"{part.name} ended at once: {layout.log(part.name).read_text()[-500:]}"
    layout.pid(part.name).write_bytes(msgspec.json.encode(identity))
    _children[child.pid] = child


_children: dict[int, "subprocess.Popen[bytes]"] = {}  # pid -> child of this process, to be reaped


def identity(layout: Layout, name: str) -> Identity | None:
    """Return the identity of a running part, or None."""
    try:
        recorded = msgspec.json.decode(layout.pid(name).read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    if (child := _children.get(recorded.pid)) is not None:
        child.poll()
    return recorded if process_identity.alive(recorded) else None


def running(layout: Layout, name: str) -> bool:
    """Return whether a part runs."""
    return identity(layout, name) is not None


def send(layout: Layout, name: str, number: signal.Signals) -> None:
    """Send a signal to a part."""
    process = identity(layout, name)
    if process is not None:
        os.kill(process.pid, number)


def stop(layout: Layout, name: str, number: signal.Signals = signal.SIGTERM) -> None:
    """Stop a part and wait until it has exited."""
    send(layout, name, signal.SIGCONT)
    send(layout, name, number)
    try:
        until(lambda: not running(layout, name), _GRACE_SECONDS, f"{name} ends")
    except AssertionError:
        send(layout, name, signal.SIGKILL)
        until(lambda: not running(layout, name), _GRACE_SECONDS, f"{name} is gone")
    layout.pid(name).unlink(missing_ok=True)


def kill_all(layout: Layout) -> None:
    """Kill every process with the mark of this cluster, including the shims of the runtime."""

    def gone() -> bool:
        identities = marked(layout.root)
        for one in identities:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        return not identities

    until(gone, _GRACE_SECONDS, "the processes of the cluster are gone")


def marked(root: Path) -> list[Identity]:
    """Return the processes with the mark of a cluster."""
    return [match.identity for match in process_identity.find(MARK) if match.value == str(root)]
