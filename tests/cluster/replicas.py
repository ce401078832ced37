"""Our services as processes on a real control plane, as many replicas of each as a test needs, with a nats-server of their own."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flexinfer.local import instance as instances
from flexinfer.local.controlplane import provisioning
from tests.instance import Running, until
from tests.nats import NatsServer, nats_server

BOOT_SECONDS = 40.0


@dataclass
class Replica:
    """One process of a service."""

    name: str
    identity: str
    process: "subprocess.Popen[bytes]"
    port_file: Path

    @property
    def ready(self) -> bool:
        """Whether it says so."""
        assert self.process.poll() is None, f"{self.name} {self.identity} has ended"
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{int(self.port_file.read_text())}/readyz", timeout=2
            ):
                return True
        except (OSError, ValueError):
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill and reap it, paused or not."""
        self.process.kill()
        self.process.wait()


class Replicas:
    """All processes of ours on one plane."""

    def __init__(self, plane: Running, folder: Path, bus: NatsServer) -> None:
        self.plane, self._folder, self._bus = plane, folder, bus
        self.running: list[Replica] = []

    def kubeconfig(self, server: str) -> Path:
        """Return a kubeconfig with the plane's own token, for another address of it."""
        token = instances.load(self.plane.state).token_file.read_text().strip()
        path = self._folder / f"{server.rpartition(':')[2]}.kubeconfig"
        told = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.write_text(json.dumps(told))
        return path

    def start(self, name: str, identity: str, kubeconfig: Path | None = None) -> Replica:
        """Start one replica and return once it is ready: it has seen everything, and leads or stands by."""
        port_file = self._folder / f"{name}-{identity}.port"
        port_file.unlink(missing_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEXINFER_")}
        told = {
            "FLEXINFER_NATS_URL": self._bus.url,
            "FLEXINFER_KUBECONFIG": str(kubeconfig or self.plane.state / "kubeconfig"),
            "FLEXINFER_IDENTITY": identity,
            "FLEXINFER_HEALTH_PORT_FILE": str(port_file),
            "FLEXINFER_MEMORY_FREE_SECONDS": "0.2",
            "FLEXINFER_DRAIN_SECONDS": "1",
        }
        with (self._folder / f"{name}-{identity}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"flexinfer.{name}"], env=clean | told, stdout=log, stderr=log
            )
        replica = Replica(name, identity, process, port_file)
        self.running.append(replica)
        until(lambda: replica.ready, BOOT_SECONDS, f"{name} {identity} is ready")
        return replica

    def lease(self, name: str) -> dict[str, Any]:
        """Return the spec of a reactor's Lease."""
        words = ("get", "lease", "-n", "flexinfer-system", f"flexinfer-{name}", "-o", "jsonpath={.spec}")
        told = self.plane.kubectl(*words, check=False)
        return json.loads(told) if told else {}

    def version(self, name: str) -> str:
        """Return the version of a reactor's Lease."""
        words = ("get", "lease", "-n", "flexinfer-system", f"flexinfer-{name}", "-o")
        return self.plane.kubectl(*words, "jsonpath={.metadata.resourceVersion}")

    def holder(self, name: str) -> str:
        """Return whose Lease it is."""
        return str(self.lease(name).get("holderIdentity", ""))

    def holders_since(self, name: str, version: str) -> list[str]:
        """Return who held a reactor's Lease in each of its versions after that one, as the API server remembers them; "" for nobody."""
        query = f"watch=1&resourceVersion={version}&timeoutSeconds=1&fieldSelector=metadata.name%3Dflexinfer-{name}"
        path = f"/apis/coordination.k8s.io/v1/namespaces/flexinfer-system/leases?{query}"
        changes = (json.loads(line) for line in self.plane.kubectl("get", "--raw", path).splitlines())
        return [change["object"]["spec"].get("holderIdentity", "") for change in changes]


@contextlib.asynccontextmanager
async def replicas(plane: Running, folder: Path) -> AsyncIterator[Replicas]:
    """Furnish the plane, run a nats-server, and end every process afterwards."""
    objects = {"apiVersion": "v1", "kind": "List", "items": list(provisioning.objects())}
    listed = folder / "objects.json"
    listed.write_text(json.dumps(objects))
    await asyncio.to_thread(plane.kubectl, "apply", "--server-side", "--force-conflicts", "-f", str(listed))
    await asyncio.to_thread(plane.kubectl, "wait", "--for=condition=Established", "crd/models.ai.flexinfer")
    async with nats_server(folder) as bus:
        made = Replicas(plane, folder, bus)
        try:
            yield made
        finally:
            for replica in made.running:
                replica.end()
            plane.kubectl("delete", "lease", "-n", "flexinfer-system", "--all", check=False)
