"""A test cluster as a whole: brought up, given a second node, taken down so that nothing stays."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from tests.node import files, groups, images, network, parts, processes, programs, view
from tests.node.layout import FIRST, SECOND, Layout, Machine
from tests.node.parts import Part
from tests.node.waiting import until

_API_SECONDS, _NODE_SECONDS, _KUBECTL_SECONDS = 60.0, 90.0, 150.0
_KUBECTL = Path(sys.executable).with_name("kubectl")
Tell = Callable[[str], None]


class Cluster:
    """A cluster in a folder of this machine."""

    def __init__(self, layout: Layout, tell: Tell) -> None:
        self.layout = layout
        self._told = layout.root / "programs.json"
        self._tell = tell

    @property
    def programs(self) -> dict[str, Path]:
        """The programs that it was brought up with."""
        told = msgspec.json.decode(self._told.read_bytes(), type=dict[str, str])
        return {name: Path(path) for name, path in told.items()}

    def up(self) -> None:
        """Bring up control plane and first node; what runs already stays."""
        found = programs.everything(os.environ, self._tell)
        network.make_first()
        view.make(self.layout, FIRST)
        files.write_plane(self.layout)
        self._told.write_bytes(msgspec.json.encode({name: str(path) for name, path in found.items()}))
        for part in (parts.store(self.layout, found), parts.api_server(self.layout, found)):
            self.start(part)
        until(self.answers, _API_SECONDS, "the API server is ready")
        self._tell("the API server is ready")
        for part in (
            parts.manager(self.layout, found),
            parts.scheduler(self.layout, found),
            parts.registry(self.layout, found),
            parts.names(self.layout, found),
        ):
            self.start(part)
        until(self.stores, _API_SECONDS, "the registry is ready")
        images.push_pause()
        self.add(FIRST)

    def add(self, machine: Machine, *, evict_below: str = "") -> None:
        """Add a node and wait until it is ready."""
        found = self.programs
        if machine != FIRST:
            network.join(machine)
        view.make(self.layout, machine)
        groups.make(machine)
        files.write_node(self.layout, machine, found, evict_below=evict_below)
        self.start_runtime(machine)
        self.start(parts.kubelet(self.layout, machine, found))
        self.start(parts.services(self.layout, machine, found))
        self.await_node(machine)
        self._tell(f"{machine.name} is ready")

    def start_runtime(self, machine: Machine) -> None:
        """Start a node's containerd and wait for its socket: kubelet gives up without it."""
        self.start(parts.containerd(self.layout, machine, self.programs))
        until(self.layout.socket(machine).exists, _NODE_SECONDS, "containerd listens")

    def start(self, part: Part) -> None:
        """Start one process."""
        processes.start(self.layout, part, os.environ)

    def await_node(self, machine: Machine, status: str = "True") -> None:
        """Wait until a node is ready, or has another word for it."""
        until(lambda: self.node_ready(machine) == status, _NODE_SECONDS, f"{machine.name}: Ready={status}")

    def node_ready(self, machine: Machine) -> str:
        """Return what a node's Ready condition says; nothing where there is no such node."""
        words = ("get", "node", machine.name, "--ignore-not-found", "-o", "json")
        told = json.loads(self.kubectl(*words) or "{}")
        found = (c["status"] for c in told.get("status", {}).get("conditions", ()) if c["type"] == "Ready")
        return next(found, "")

    def answers(self) -> bool:
        """Tell whether the API server is ready."""
        return self._ran("get", "--raw", "/readyz").returncode == 0

    def stores(self) -> bool:
        """Tell whether the registry answers."""
        words = (*network.command(FIRST), "curl", "-fsS", "--max-time", "1", "http://127.0.0.1:5000/v2/")
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl as administrator; returns what it printed, fails with what it said."""
        done = self._ran(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def object(self, *words: str) -> dict[str, Any]:
        """Return what `kubectl get` finds."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return found

    def _ran(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            (*network.command(FIRST), str(_KUBECTL), *words),
            env={**os.environ, "KUBECONFIG": str(self.layout.kubeconfig())},
            input=stdin or None,
            stdin=None if stdin else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_KUBECTL_SECONDS,
        )

    def remove(self, machine: Machine) -> None:
        """Take a node away, from the cluster and from this machine; nobody is left to end its Pods, so they go by force."""
        shown = "" if machine == FIRST else f"-{machine.name}"
        for name in ("kubelet", "kube-proxy", "containerd"):
            processes.stop(self.layout, name + shown)
        self.kubectl("delete", "node", machine.name, "--ignore-not-found")
        left = ("--all-namespaces", f"--field-selector=spec.nodeName={machine.name}")
        self.kubectl("delete", "pods", *left, "--force", "--grace-period=0", "--timeout=60s")
        self._forget(machine)

    def down(self) -> None:
        """Take everything away."""
        processes.kill_all(self.layout)
        for machine in (SECOND, FIRST):
            self._forget(machine)
        view.remove_all(self.layout)
        shutil.rmtree(self.layout.root, ignore_errors=True)

    def _forget(self, machine: Machine) -> None:
        groups.clear(machine)
        view.remove(self.layout, machine)
        network.remove(machine)


@contextlib.contextmanager
def borrowed(layout: Layout, tell: Tell) -> Iterator[Cluster]:
    """Use the cluster of `make node-up`, or one that goes afterwards; meanwhile this process is in its network, out of which nothing is fetched."""
    found = Cluster(layout, tell)
    ours = not found.answers() if network.exists(FIRST) else True
    with contextlib.ExitStack() as stack:
        if ours:
            stack.callback(found.down)
        found.up()
        stack.enter_context(network.inside(FIRST))
        yield found
