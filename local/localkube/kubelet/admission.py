"""Admission: what a Pod asks for that the local node does not offer. Pure; nothing is ignored silently."""

from localkube.kubelet.client import Object

REASON = "NotOffered"


def rejection(pod: Object) -> str:
    """Return why a Pod cannot be run here at all; empty when it can."""
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
