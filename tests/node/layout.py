"""The files, names and addresses of a test cluster."""

import os
from pathlib import Path

import msgspec

SERVICE_RANGE, FIRST_SERVICE = "10.96.0.0/16", "10.96.0.1"
POD_RANGE = "10.244.0.0/16"
DOMAIN = "cluster.local"
REGISTRY_PORT = 5000
REGISTRY = f"localhost:{REGISTRY_PORT}"
PAUSE_IMAGE = f"{REGISTRY}/pause:1"
LAN = "lan0"
LAN_BITS = 24


class Machine(msgspec.Struct, frozen=True):
    """One node: a network namespace with an address on the shared network and a range for its Pods."""

    name: str
    number: int

    @property
    def namespace(self) -> str:
        """The name of its network namespace."""
        return f"flexinfer-{self.name}"

    @property
    def address(self) -> str:
        """Its address on the shared network."""
        return f"10.251.0.{self.number}"

    @property
    def pods(self) -> str:
        """The address range of its Pods."""
        return f"10.244.{self.number - 1}.0/24"

    @property
    def gateway(self) -> str:
        """Its address on the bridge of its Pods."""
        return f"10.244.{self.number - 1}.1"

    @property
    def cgroup(self) -> str:
        """The control group of its Pods, which separates two kubelets on one machine."""
        return f"/flexinfer-{self.name}"


FIRST, SECOND = Machine("node-a", 1), Machine("node-b", 2)
API = f"https://{FIRST.address}:6443"


class Layout(msgspec.Struct, frozen=True):
    """The files of a cluster in one folder, whose path must be short because it contains sockets."""

    root: Path

    @property
    def certificates(self) -> Path:
        """Keys and certificates."""
        return self.root / "certificates"

    @property
    def audit(self) -> Path:
        """The audit log of the writes of FlexInfer: one JSON object per line."""
        return self.root / "audit.log"

    def kubeconfig(self, who: str = "admin") -> Path:
        """Return the kubeconfig of a user or component."""
        return self.root / f"{who}.kubeconfig"

    def log(self, process: str) -> Path:
        """Return the log of a process."""
        return self.root / "log" / f"{process}.log"

    def pid(self, process: str) -> Path:
        """Return the file with the pid of a process."""
        return self.root / "pid" / process

    def home(self, machine: Machine) -> Path:
        """Return the folder of one node."""
        return self.root / machine.name

    def claims(self, machine: Machine) -> Path:
        """Return the folder of the PVCs of a node."""
        return self.home(machine) / "claims"

    def cdi(self, machine: Machine) -> Path:
        """Return the folder in which containerd of a node looks for CDI files."""
        return self.home(machine) / "cdi"

    def devices(self, machine: Machine) -> Path:
        """Return the file of the devices that the plugins of a node offer."""
        return self.home(machine) / "devices.json"

    def socket(self, machine: Machine) -> Path:
        """Return containerd's socket on a node."""
        return self.home(machine) / "containerd.sock"


def layout() -> Layout:
    """Return the layout in the folder $NODE_STATE, or in the default folder."""
    return Layout(Path(os.environ.get("NODE_STATE", "/var/lib/flexinfer-node")))
