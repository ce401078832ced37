"""The processes of a test cluster on this machine: they outlive the command that starts them, and are known by pid and start time."""

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
"""What every process of a cluster carries in its environment: the cluster's folder."""
_GRACE_SECONDS = 20.0


def start(layout: Layout, part: Part, environment: Mapping[str, str]) -> None:
    """Start a part unless it runs already; what it prints goes to its log."""
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


_children: dict[int, "subprocess.Popen[bytes]"] = {}  # pid -> what this very process started, to be reaped


def identity(layout: Layout, name: str) -> Identity | None:
    """Return the process of a part that lives."""
    try:
        known = msgspec.json.decode(layout.pid(name).read_bytes(), type=Identity)
    except FileNotFoundError:
        return None
    if (child := _children.get(known.pid)) is not None:
        child.poll()
    return known if process_identity.alive(known) else None


def running(layout: Layout, name: str) -> bool:
    """Tell whether a part runs."""
    return identity(layout, name) is not None


def send(layout: Layout, name: str, number: signal.Signals) -> None:
    """Send a signal to a part."""
    found = identity(layout, name)
    if found is not None:
        os.kill(found.pid, number)


def stop(layout: Layout, name: str, number: signal.Signals = signal.SIGTERM) -> None:
    """Stop a part, and wait until it is gone."""
    send(layout, name, signal.SIGCONT)
    send(layout, name, number)
    try:
        until(lambda: not running(layout, name), _GRACE_SECONDS, f"{name} ends")
    except AssertionError:
        send(layout, name, signal.SIGKILL)
        until(lambda: not running(layout, name), _GRACE_SECONDS, f"{name} is gone")
    layout.pid(name).unlink(missing_ok=True)


def kill_all(layout: Layout) -> None:
    """End whatever carries this cluster's mark, the runtime's helpers included."""

    def gone() -> bool:
        found = marked(layout.root)
        for one in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        return not found

    until(gone, _GRACE_SECONDS, "the processes of the cluster are gone")


def marked(root: Path) -> list[Identity]:
    """Return the processes that carry a cluster's mark."""
    return [found.identity for found in process_identity.find(MARK) if found.value == str(root)]
