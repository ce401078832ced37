"""What of a Pod gives it its devices, by the binding of the Model's placement; and the ResourceClaim where that is DRA. Pure."""

from collections.abc import Sequence
from typing import Any

from flexinfer.api import kube
from flexinfer.api.bindings import DRA, VISIBLE, VISIBLE_VARIABLES, visible_name
from flexinfer.api.dra import CLAIM, MEMORY, selector
from flexinfer.api.kinds import RESOURCE_CLAIMS
from flexinfer.api.labels import GPU_RESOURCES, TEMPLATE_ANNOTATION
from flexinfer.api.model import Model
from flexinfer.api.placement import PlacedDevice, Placement
from flexinfer.launcher.digest import digest
from flexinfer.sources import pod

Json = dict[str, Any]
_SUFFIX = 8


def binding_of(model: Model) -> str:
    """Return the binding of a Model's devices; empty for a Model without devices."""
    placement = model.status.placement
    return placement.binding if placement is not None and model.spec.devices else ""


def resources(model: Model, vendor: str) -> Json:
    """Return the resources of the engine's container: those of the spec, and its devices as an extended resource or a claim."""
    spec = model.spec.resources
    requests = dict(spec.requests) if spec else {}
    limits = dict(spec.limits) if spec else {}
    binding, device = binding_of(model), GPU_RESOURCES.get(vendor)
    if device and model.spec.devices and binding not in (DRA, VISIBLE):
        requests[device] = limits[device] = str(model.spec.devices)
    claims = [{"name": CLAIM}] if binding == DRA else []
    parts = (("requests", requests), ("limits", limits), ("claims", claims))
    return {name: value for name, value in parts if value}


def runtime_class(model: Model) -> str:
    """Return the RuntimeClass with which a Model gets its devices; empty where the node's default runtime gives them."""
    placement = model.status.placement
    return placement.runtime_class_name if placement is not None and binding_of(model) else ""


def variables(model: Model) -> list[Json]:
    """Return the variable by which the container runtime gives exactly the devices of the placement; none under another binding.

    A device plugin's own variable would lose to one of the Pod's environment, so none is set there.
    """
    placement = model.status.placement
    if placement is None or binding_of(model) != VISIBLE:
        return []
    names = [visible_name(placement.vendor, uuid) for uuid in placement.uuids]
    return [{"name": VISIBLE_VARIABLES[placement.vendor], "value": ",".join(names)}]


def claimed(model: Model) -> Sequence[str]:
    """Return the devices that a Pod's claim asks for: another Pod is needed for others."""
    placement = model.status.placement
    return placement.uuids if placement is not None and binding_of(model) == DRA else ()


def pod_claims(model: Model, pod_name: str) -> Json:
    """Return the claim that a Pod names, if it needs one.

    No other Pod of that name has had one of this name: a claim that is in use outlives its deletion. It need not exist before the Pod's gate opens.
    """
    if binding_of(model) != DRA:
        return {}
    unique = digest([model.uid, model.metadata.resource_version])[:_SUFFIX]
    return {"resourceClaims": [{"name": CLAIM, "resourceClaimName": f"{pod_name}-{CLAIM}-{unique}"}]}


def resource_claim(model: Model, of: kube.Pod, name: str) -> Json:
    """Return the ResourceClaim of a Pod for exactly the devices of the placement; it is deleted with the Pod.

    Of a device that several claims may have at once it requests the Model's part: https://kubernetes.io/docs/concepts/scheduling-eviction/dynamic-resource-allocation/.
    """
    placement = model.status.placement or Placement()
    spec = {"devices": {"requests": [_request(placement, n, d) for n, d in enumerate(placement.devices)]}}
    return {
        "apiVersion": RESOURCE_CLAIMS.api_version,
        "kind": RESOURCE_CLAIMS.name,
        "metadata": {
            "name": name,
            "namespace": model.metadata.namespace,
            "labels": pod.labels(model, CLAIM, "launcher"),
            "annotations": {TEMPLATE_ANNOTATION: digest(spec)},
            "ownerReferences": [_owner(of)],
        },
        "spec": spec,
    }


def _request(placement: Placement, number: int, device: PlacedDevice) -> Json:
    expression = selector(placement.driver, uuid=device.uuid, pci=device.pci_address)
    exactly: Json = {
        "deviceClassName": placement.driver,  # each driver installs a DeviceClass of its own name
        "selectors": [{"cel": {"expression": expression}}],
    }
    if placement.shared:
        exactly["capacity"] = {"requests": {MEMORY: f"{device.memory_mb}Mi"}}
    return {"name": f"{CLAIM}-{number}", "exactly": exactly}


def _owner(of: kube.Pod) -> Json:
    return {"apiVersion": "v1", "kind": "Pod", "name": of.metadata.name, "uid": of.metadata.uid}
