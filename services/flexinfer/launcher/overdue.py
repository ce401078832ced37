"""What a stop that does not end says: what holds the Pod, and the exits. Pure."""

from flexinfer.api import kube
from flexinfer.launcher.manifests import STOP_SECONDS
from flexinfer.launcher.status import node_exits

_WITHOUT_FINALIZERS = 'kubectl patch pod {meta.name} -n {meta.namespace} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\''


def subject(pod: kube.Pod) -> str:
    """Return which Pod it is, and where."""
    where = f" on node {pod.spec.node_name}" if pod.spec.node_name else ""
    return f"Pod {pod.metadata.name}{where}"


def overdue(pod: kube.Pod) -> str:
    """Return the message of a stop that does not end: what holds the Pod, and the exits; equal at each attempt."""
    meta, node = pod.metadata, pod.spec.node_name
    finalizers = f" with finalizers {', '.join(meta.finalizers)}" if meta.finalizers else ""
    exits = [f"see kubectl describe pod {meta.name} -n {meta.namespace}"]
    exits += [f"remove its finalizers: {_WITHOUT_FINALIZERS.format(meta=meta)}"] if meta.finalizers else []
    exits += [f"if node {node} is lost: {node_exits(node)}"] if node else []
    return f"{subject(pod)}{finalizers} still exists {STOP_SECONDS}s after its deletion: {'; '.join(exits)}"
