"""A card that the stub engines of a real node take memory of: what a driver would report, in a file for the agent, as the cards of `flexinfer up` are.

The containers of the node are processes of this machine. One is on the card if its environment makes the card visible, as a RuntimeClass reads it; it
is looked for every 20 ms, its end is seen at once, and its memory is back then. So the times of engines' ends are known here, also those of bare Pods.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from flexinfer.agent.processes import pod_of
from flexinfer.local.simulation.description import Description, Gpu, Node
from flexinfer.local.simulation.devices import Holder, SimulatedDevices
from flexinfer.local.simulation.engines import VISIBLE, program
from flexinfer.local.simulation.exits import Exits
from localkube.process_identity import Identity, alive, identify
from tests.node.cards import FILE

_LOOK_SECONDS, _SETTLED_SECONDS = 0.02, 5.0
_PROGRAM = b"/stub_engine.py"


class _Engine(msgspec.Struct, frozen=True):
    """A stub that runs in a Pod, and the devices that it sees."""

    identity: Identity
    pod_uid: str
    devices: tuple[str, ...]


class NodeCard:
    """One card of a node; an engine on it takes so much memory."""

    def __init__(self, folder: Path, node: str, memory_mb: int) -> None:
        self.folder, self._memory_mb = folder, memory_mb
        self._described = Description(
            nodes=(Node(name=node, gpus=(Gpu(profile="rtx-3090", release_delay="0s"),)),)
        )
        self._node, self._devices = node, SimulatedDevices()
        self._engines: dict[int, _Engine] = {}
        self._others: dict[int, float] = {}  # pid -> when it was first seen
        self._written = b""
        self.ended: dict[str, float] = {}
        """uid of a Pod -> when its engine's process had ended, by the monotonic clock."""

    def step(self) -> None:
        """Look at the engines, and write for the agent what has changed."""
        self._note_ends()
        self._look()
        holders = [
            Holder(
                devices=engine.devices,
                pid=engine.identity.pid,
                started=engine.identity.started,
                memory_mb=self._memory_mb,
                name=program(engine.identity),
                pod_uid=engine.pod_uid,
            )
            for engine in self._engines.values()
        ]
        devices = self._devices.step(self._described, holders, time.monotonic())[self._node]
        content = msgspec.json.encode({"devices": devices})
        if content != self._written:
            written = self.folder / f".{FILE}"
            written.write_bytes(content)
            written.chmod(0o644)
            written.replace(self.folder / FILE)
            self._written = content

    def _note_ends(self) -> None:
        for pid, engine in list(self._engines.items()):
            if not alive(engine.identity):
                self.ended[engine.pod_uid] = time.monotonic()
                del self._engines[pid]

    def _look(self) -> None:
        """Find the engines that have started; what is no engine some seconds after it was first seen becomes none any more."""
        now, names = time.monotonic(), (path.name for path in Path("/proc").iterdir())
        pids = {int(name) for name in names if name.isdigit()}
        self._others = {pid: since for pid, since in self._others.items() if pid in pids}
        for pid in pids - self._engines.keys():
            if now - self._others.setdefault(pid, now) < _SETTLED_SECONDS:
                with contextlib.suppress(OSError):
                    if engine := _engine(pid):
                        self._engines[pid] = engine

    async def drive(self, over: threading.Event) -> None:
        """Play the driver until this is set."""
        exits = Exits()
        while not over.is_set():
            self.step()
            exits.follow([engine.identity for engine in self._engines.values()])
            await exits.wait(_LOOK_SECONDS)


def _engine(pid: int) -> _Engine | None:
    """Return the stub that a process is; None if it is none. Raises OSError if it has ended."""
    folder = Path("/proc", str(pid))
    identity = identify(pid)
    pod_uid = pod_of((folder / "cgroup").read_text())
    if identity is None or not pod_uid or _PROGRAM not in (folder / "cmdline").read_bytes().split(b"\0"):
        return None
    pairs = (entry.partition("=") for entry in (folder / "environ").read_text().split("\0"))
    values = {name: value for name, _, value in pairs}
    visible = next((values[name] for name in VISIBLE if values.get(name)), "")
    return _Engine(identity, pod_uid, tuple(visible.split(",")) if visible else ())


@contextlib.contextmanager
def driven(folder: Path, node: str, memory_mb: int) -> Iterator[NodeCard]:
    """Play the driver of a card during the block, with its file in a folder that is made for it."""
    folder.mkdir(parents=True, exist_ok=True)
    card, over = NodeCard(folder, node, memory_mb), threading.Event()
    card.step()
    thread = threading.Thread(target=lambda: asyncio.run(card.drive(over)), daemon=True)
    thread.start()
    try:
        yield card
    finally:
        over.set()
        thread.join()
