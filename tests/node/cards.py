"""Cards that do not exist, on a node of a test cluster: the agent reports those of a file, and engines for NVIDIA run an image that needs none."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from tests.node.cluster import Cluster
from tests.node.files import RUNTIME_CLASS
from tests.node.product import SYSTEM
from tests.patience import patient

FILE = "cards.json"
_AGENT, _LAUNCHER, _WATCHER = (
    "daemonset/flexinfer-agent",
    "deployment/flexinfer-launcher",
    "deployment/flexinfer-watcher",
)
Json = dict[str, Any]


def apply(cluster: Cluster, *items: Json) -> None:
    """Apply objects."""
    cluster.kubectl(
        "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*items]})
    )


def rolled_out(cluster: Cluster, *workloads: str) -> None:
    """Wait until workloads run with their present template."""
    for workload in workloads:
        cluster.kubectl("rollout", "status", "-n", SYSTEM, workload, f"--timeout={patient(120):.0f}s")


@contextlib.contextmanager
def reported(cluster: Cluster, volume: Json, image: str) -> Iterator[None]:
    """Let the agent report the cards of `FILE` in a volume during the block, and engines for NVIDIA run an image."""
    container = {
        "name": "agent",
        "env": [{"name": "FLEXINFER_SIMULATED_GPUS", "value": f"/cards/{FILE}"}],
        "volumeMounts": [{"name": "cards", "mountPath": "/cards"}],
    }
    template = {"spec": {"containers": [container], "volumes": [{"name": "cards"} | volume]}}
    patch = json.dumps({"spec": {"template": template}})
    cluster.kubectl("patch", _AGENT, "-n", SYSTEM, "-p", patch)
    cluster.kubectl("set", "env", "-n", SYSTEM, _LAUNCHER, f"FLEXINFER_IMAGE_LLAMACPP_NVIDIA={image}")
    rolled_out(cluster, _AGENT, _LAUNCHER)
    try:
        yield
    finally:
        for workload in (_AGENT, _LAUNCHER):
            cluster.kubectl("rollout", "undo", "-n", SYSTEM, workload)
        rolled_out(cluster, _AGENT, _LAUNCHER)


@contextlib.contextmanager
def bound_by_runtime_class(cluster: Cluster) -> Iterator[None]:
    """Let the watcher name a RuntimeClass for NVIDIA during the block, which the node can run."""
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": RUNTIME_CLASS}
    apply(cluster, kind | {"metadata": {"name": RUNTIME_CLASS}})
    setting = "FLEXINFER_RUNTIME_CLASS_NVIDIA"
    cluster.kubectl("set", "env", "-n", SYSTEM, _WATCHER, f"{setting}={RUNTIME_CLASS}")
    rolled_out(cluster, _WATCHER)
    try:
        yield
    finally:
        cluster.kubectl("set", "env", "-n", SYSTEM, _WATCHER, f"{setting}-")
        rolled_out(cluster, _WATCHER)
        cluster.kubectl("delete", "runtimeclass", RUNTIME_CLASS)
