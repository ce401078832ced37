"""A test cluster: start it, add a second node, and stop it without leaving anything behind."""

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
from tests.patience import patient

_API_SECONDS, _NODE_SECONDS, _KUBECTL_SECONDS = 60.0, 90.0, 150.0
_KUBECTL = Path(sys.executable).with_name("kubectl")
Report = Callable[[str], None]


class Cluster:
    """A cluster with its files in a folder of this machine."""

    def __init__(self, layout: Layout, report: Report) -> None:
        self.layout = layout
        self._programs_file = layout.root / "programs.json"
        self._report = report

    @property
    def programs(self) -> dict[str, Path]:
        """The programs that the cluster was started with."""
        paths = msgspec.json.decode(self._programs_file.read_bytes(), type=dict[str, str])
        return {name: Path(path) for name, path in paths.items()}

    def up(self) -> None:
        """Start control plane and first node; processes that already run are kept."""
        located = programs.everything(os.environ, self._report)
        network.make_first()
        view.make(self.layout, FIRST)
        files.write_plane(self.layout)
        self._programs_file.write_bytes(
            msgspec.json.encode({name: str(path) for name, path in located.items()})
        )
        for part in (parts.store(self.layout, located), parts.api_server(self.layout, located)):
            self.start(part)
        until(self.answers, _API_SECONDS, "the API server is ready")
        self._report("the API server is ready")
        for part in (
            parts.manager(self.layout, located),
            parts.scheduler(self.layout, located),
            parts.registry(self.layout, located),
            parts.names(self.layout, located),
        ):
            self.start(part)
        until(self.registry_answers, _API_SECONDS, "the registry is ready")
        images.push_pause()
        self.add(FIRST)

    def add(self, machine: Machine, *, evict_below: str = "") -> None:
        """Add a node and wait until it is ready."""
        programs_of_node = self.programs
        if machine != FIRST:
            network.join(machine)
        view.make(self.layout, machine)
        groups.make(machine)
        files.write_node(self.layout, machine, programs_of_node, evict_below=evict_below)
        self.start_runtime(machine)
        self.start(parts.kubelet(self.layout, machine, programs_of_node))
        self.start(parts.services(self.layout, machine, programs_of_node))
        self.wait_for_node(machine)
        self._report(f"{machine.name} is ready")

    def start_runtime(self, machine: Machine) -> None:
        """Start containerd of a node and wait for its socket, without which kubelet exits."""
        self.start(parts.containerd(self.layout, machine, self.programs))
        until(self.layout.socket(machine).exists, _NODE_SECONDS, "containerd listens")

    def start(self, part: Part) -> None:
        """Start one process."""
        processes.start(self.layout, part, os.environ)

    def wait_for_node(self, machine: Machine, status: str = "True") -> None:
        """Wait until the Ready condition of a node has this status."""
        until(lambda: self.node_ready(machine) == status, _NODE_SECONDS, f"{machine.name}: Ready={status}")

    def node_ready(self, machine: Machine) -> str:
        """Return the status of a node's Ready condition; empty if there is no such node."""
        words = ("get", "node", machine.name, "--ignore-not-found", "-o", "json")
        node = json.loads(self.kubectl(*words) or "{}")
        statuses = (c["status"] for c in node.get("status", {}).get("conditions", ()) if c["type"] == "Ready")
        return next(statuses, "")

    def answers(self) -> bool:
        """Report whether the API server is ready."""
        return self._run("get", "--raw", "/readyz").returncode == 0

    def registry_answers(self) -> bool:
        """Report whether the registry answers."""
        words = (*network.command(FIRST), "curl", "-fsS", "--max-time", "1", "http://127.0.0.1:5000/v2/")
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl as administrator and return its output; fails with its error output."""
        done = self._run(*words, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def object(self, *words: str) -> dict[str, Any]:
        """Return the result of `kubectl get -o json`."""
        obj: dict[str, Any] = json.loads(self.kubectl("get", *words, "-o", "json"))
        return obj

    def _run(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
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
        """Remove a node from the cluster and from this machine.

        Its Pods are force-deleted, since its kubelet is gone.
        """
        shown = "" if machine == FIRST else f"-{machine.name}"
        for name in ("kubelet", "kube-proxy", "containerd"):
            processes.stop(self.layout, name + shown)
        self.kubectl("delete", "node", machine.name, "--ignore-not-found")
        left = ("--all-namespaces", f"--field-selector=spec.nodeName={machine.name}")
        self.kubectl("delete", "pods", *left, "--force", "--grace-period=0", f"--timeout={patient(60):.0f}s")
        self._forget(machine)

    def down(self) -> None:
        """Stop all processes and delete all files."""
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
def running_cluster(layout: Layout, report: Report) -> Iterator[Cluster]:
    """Use the cluster of `make node-up`, or a temporary one.

    Meanwhile this process is in its network, which has no route to the internet.
    """
    cluster = Cluster(layout, report)
    temporary = not cluster.answers() if network.exists(FIRST) else True
    with contextlib.ExitStack() as stack:
        if temporary:
            stack.callback(cluster.down)
        cluster.up()
        stack.enter_context(network.inside(FIRST))
        yield cluster
