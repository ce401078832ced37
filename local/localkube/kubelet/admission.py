"""Admission: rejects Pods that use what this node does not support, as kubelet's admit handlers do. Pure; nothing is ignored silently."""

from localkube.kubelet.client import Object

REASON = "NotOffered"


def rejection(pod: Object) -> str:
    """Return why this node can never run a Pod; empty if it can."""
    spec = pod["spec"]
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy"):
            return f"init container {container['name']} has a restartPolicy: the local node has no sidecar containers"
    for container in spec["containers"]:
        if (container.get("lifecycle") or {}).get("postStart"):
            return f"container {container['name']} has a postStart hook: the local node has none"
    if spec.get("resourceClaims"):
        return "the local node has no resource claims: ask for devices by resources.limits"
    return ""
