"""Components as processes on a real control plane, with any number of replicas and their own nats-server."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flexinfer.local import instance as instances
from flexinfer.local.controlplane import provisioning
from tests.instance import Running, until
from tests.nats import NatsServer, nats_server

BOOT_SECONDS = 40.0


@dataclass
class Replica:
    """One process of a component."""

    name: str
    identity: str
    process: "subprocess.Popen[bytes]"
    port_file: Path

    @property
    def ready(self) -> bool:
        """Whether its readiness probe succeeds."""
        assert self.process.poll() is None, f"{self.name} {self.identity} has ended"
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{int(self.port_file.read_text())}/readyz", timeout=2
            ):
                return True
        except (OSError, ValueError):
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    def end(self) -> None:
        """Kill and reap the process, paused or not."""
        self.process.kill()
        self.process.wait()


class Replicas:
    """All component processes on one control plane."""

    def __init__(self, plane: Running, folder: Path, bus: NatsServer) -> None:
        self.plane, self._folder, self.bus = plane, folder, bus
        self.running: list[Replica] = []

    def kubeconfig(self, server: str) -> Path:
        """Write a kubeconfig with the token of the control plane for another address of it.

        Return its file.
        """
        token = instances.load(self.plane.state).token_file.read_text().strip()
        path = self._folder / f"{server.rpartition(':')[2]}.kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": server}}],
            "users": [{"name": "it", "user": {"token": token}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        }
        path.write_text(json.dumps(config))
        return path

    def start(
        self,
        name: str,
        identity: str,
        kubeconfig: Path | None = None,
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> Replica:
        """Start one replica and return when it is ready: synced, and leader or standby.

        `others` are variables that it alone has.
        """
        port_file = self._folder / f"{name}-{identity}.port"
        port_file.unlink(missing_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FLEXINFER_")}
        settings = {
            "FLEXINFER_NATS_URL": self.bus.url,
            "FLEXINFER_KUBECONFIG": str(kubeconfig or self.plane.state / "kubeconfig"),
            "FLEXINFER_IDENTITY": identity,
            "FLEXINFER_HEALTH_PORT_FILE": str(port_file),
            "FLEXINFER_MEMORY_FREE_SECONDS": "0.2",
            "FLEXINFER_DRAIN_SECONDS": "1",
            **others,
        }
        with (self._folder / f"{name}-{identity}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"flexinfer.{name}"], env=clean | settings, stdout=log, stderr=log
            )
        replica = Replica(name, identity, process, port_file)
        self.running.append(replica)
        until(lambda: replica.ready, BOOT_SECONDS, f"{name} {identity} is ready")
        return replica

    def lease(self, name: str) -> dict[str, Any]:
        """Return the spec of a controller's Lease; empty if there is none."""
        words = ("get", "lease", "-n", "flexinfer-system", f"flexinfer-{name}", "-o", "jsonpath={.spec}")
        spec = self.plane.kubectl(*words, check=False)
        return json.loads(spec) if spec else {}

    def version(self, name: str) -> str:
        """Return the resourceVersion of a controller's Lease."""
        words = ("get", "lease", "-n", "flexinfer-system", f"flexinfer-{name}", "-o")
        return self.plane.kubectl(*words, "jsonpath={.metadata.resourceVersion}")

    def holder(self, name: str) -> str:
        """Return the holder of a controller's Lease; empty if there is none."""
        return str(self.lease(name).get("holderIdentity", ""))

    def holders_since(self, name: str, version: str) -> list[str]:
        """Return the holder in each later version of a controller's Lease; "" where it has none."""
        return [str(spec.get("holderIdentity", "")) for spec in self.leases_since(name, version)]

    def leases_since(self, name: str, version: str) -> list[dict[str, Any]]:
        """Return the spec of each later version of a controller's Lease, as a watch replays them."""
        query = f"watch=1&resourceVersion={version}&timeoutSeconds=2&fieldSelector=metadata.name%3Dflexinfer-{name}"
        path = f"/apis/coordination.k8s.io/v1/namespaces/flexinfer-system/leases?{query}"
        changes = (json.loads(line) for line in self.plane.kubectl("get", "--raw", path).splitlines())
        return [change["object"]["spec"] for change in changes]


@contextlib.asynccontextmanager
async def replicas(plane: Running, folder: Path) -> AsyncIterator[Replicas]:
    """Provision the control plane, run a nats-server, and kill every replica at the end."""
    objects = {"apiVersion": "v1", "kind": "List", "items": list(provisioning.objects())}
    listed = folder / "objects.json"
    listed.write_text(json.dumps(objects))
    await asyncio.to_thread(plane.kubectl, "apply", "--server-side", "--force-conflicts", "-f", str(listed))
    await asyncio.to_thread(plane.kubectl, "wait", "--for=condition=Established", "crd/models.ai.flexinfer")
    async with nats_server(folder) as bus:
        group = Replicas(plane, folder, bus)
        try:
            yield group
        finally:
            for replica in group.running:
                replica.end()
            plane.kubectl("delete", "lease", "-n", "flexinfer-system", "--all", check=False)
            await asyncio.to_thread(_forget, plane, folder)


def _forget(plane: Running, folder: Path) -> None:
    """Delete all that the replicas worked on, finalizers aside: those of the next test would continue with it."""
    kinds = "models,sharedgroups,gpuleases"
    items = json.loads(plane.kubectl("get", kinds, "--all-namespaces", "-o", "json"))["items"]
    for item in items:
        item["metadata"].pop("finalizers", None)
    (folder / "left.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    if items:
        plane.kubectl("replace", "-f", str(folder / "left.json"))
    plane.kubectl("delete", kinds, "--all", "--all-namespaces", "--wait=false", "--ignore-not-found")
