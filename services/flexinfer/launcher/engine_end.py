"""The end of an engine's process: what its node and its own output say of the cause, and what helps. Pure."""

import re

from flexinfer import backends
from flexinfer.api.conditions import clause
from flexinfer.api.model import Model
from flexinfer.backends import failures
from flexinfer.events.workload import PodFacts

NODE_BACK_OFF = re.compile(r"back-off (\S+) restarting")
"""What a kubelet says of a container that it restarts ever later (kuberuntime_manager.go, doBackOff)."""
_NODE_SHUTDOWN = "NodeShutdown"
"""What the local node says of an engine that it stopped because it was shut down itself (`localkube.kubelet.termination_message`)."""


def stopped_by_node(pod: PodFacts) -> bool:
    """Return whether the engine's process ended last because its node was shut down."""
    return pod.last.startswith(_NODE_SHUTDOWN)


def cause(model: Model, pod: PodFacts) -> str:
    """Return why the engine's process ended last: the line of its output that the backend knows as a cause, else the last one."""
    line = _own(model, pod).text
    if line:
        return f"{pod.last.partition(': ')[0]}: {line}"
    return pod.last or ("" if NODE_BACK_OFF.search(pod.message) else pod.message)


def _own(model: Model, pod: PodFacts) -> failures.Cause:
    """Return the cause that the engine itself names."""
    backend = backends.find(model.spec.backend)
    return failures.cause(backend.failures, pod.output) if backend is not None else failures.Cause()


def remedy(model: Model, pod: PodFacts) -> str:
    """Return what helps an engine that exceeded its memory, that this node cannot run, or that cannot load its weights; else nothing."""
    if pod.last.startswith("OOMKilled"):
        return "; raise spec.resources.limits.memory"
    if "exec format error" in pod.last:
        return f"; its image is built for another architecture than that of node {pod.node}: set spec.image or spec.nodeSelector"
    kind = _own(model, pod).kind
    backend = backends.find(model.spec.backend)
    less = backend.less_memory if backend is not None and kind is failures.Kind.MEMORY else ""
    helps = less or failures.REMEDIES.get(kind, "")
    return f"; {helps}" if helps else ""


def joined(reason: str, message: str) -> str:
    """Return a reason with what its message adds, if it has one."""
    return f"{reason}: {clause(message)}" if message else reason
