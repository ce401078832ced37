"""Requirements: what a Model asks of a node. Pure.

What a node has left for a Model is `state`'s, the comparison of the two is `fit`'s.
"""

import msgspec

from flexinfer import backends
from flexinfer.api.labels import GPU_RESOURCES
from flexinfer.api.model import Model, ModelSpec, Resources
from flexinfer.api.numbers import bounded
from flexinfer.api.quantity import milli
from flexinfer.backends import UnsupportedArchitecture
from flexinfer.events.nodes import Device, Taint

_GPU_TAINTS = frozenset({*GPU_RESOURCES.values()})
_REPELLING_EFFECTS = ("NoSchedule", "NoExecute")


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """A Model's requirements; `amounts` are thousandths, `vram_mb` is MiB on each device, 0 if unknown."""

    devices: int
    vendors: tuple[str, ...]
    vram_mb: int
    amounts: dict[str, int]
    selector: dict[str, str]
    backend: str
    unsupported: tuple[UnsupportedArchitecture, ...] = ()
    """GPUs that the engine cannot run on, as its backend says."""

    @property
    def footprint(self) -> int:
        """The memory that the Model reserves on all its devices, in MiB."""
        return bounded(self.vram_mb * self.devices)

    def tolerates(self, taint: Taint) -> bool:
        """Tell whether the Model's Pod tolerates a taint; a Pod with devices tolerates those of GPU nodes."""
        if taint.effect not in _REPELLING_EFFECTS:
            return True
        return self.devices > 0 and (
            taint.key in _GPU_TAINTS or (taint.key, taint.value) == ("dedicated", "gpu")
        )

    def runs_on(self, device: Device) -> bool:
        """Return whether the engine can use a device at all, its free memory aside."""
        return device.healthy and not self._unsupported(device)

    def unsupported_reason(self, device: Device) -> str:
        """Return why the engine cannot run on a device of this architecture, as its backend says; empty if it can."""
        return next((gpus.reason for gpus in self._unsupported(device)), "")

    def _unsupported(self, device: Device) -> list[UnsupportedArchitecture]:
        return [gpus for gpus in self.unsupported if gpus.covers(device.vendor, device.architecture)]


_cached: dict[
    int, tuple[ModelSpec, Requirements]
] = {}  # id of a spec -> the spec, so that the id stays its own
_MOST_CACHED = 8192


def requirements_of(model: Model) -> Requirements:
    """Return what a Model asks of a node; computed once for each spec."""
    cached = _cached.get(id(model.spec))
    if cached is not None and cached[0] is model.spec:
        return cached[1]
    if len(_cached) >= _MOST_CACHED:
        _cached.clear()
    _cached[id(model.spec)] = model.spec, _computed(model)
    return _cached[id(model.spec)][1]


def _computed(model: Model) -> Requirements:
    gpu, backend = model.spec.gpu, backends.find(model.spec.backend)
    vendor = gpu.vendor if gpu is not None else "cpu"
    supported = backend.vendors if backend is not None else tuple(GPU_RESOURCES)
    gpu_vendors = tuple(v for v in GPU_RESOURCES if v in supported) or tuple(GPU_RESOURCES)
    return Requirements(
        devices=model.spec.devices,
        vendors=(vendor,) if vendor in ("cpu", *GPU_RESOURCES) else gpu_vendors,
        vram_mb=(gpu.vram_estimate_mb or 0) if gpu is not None else 0,
        amounts=_amounts(model.spec.resources or Resources()),
        selector=model.spec.node_selector,
        backend=backends.canonical(model.spec.backend),
        unsupported=backend.unsupported_architectures if backend is not None else (),
    )


def _amounts(resources: Resources) -> dict[str, int]:
    """Return the requests, and the limits where there is no request, as Kubernetes defaults them."""
    amounts = {"pods": 1000}
    for name, quantity in (resources.limits | resources.requests).items():
        try:
            amounts[name] = milli(quantity)
        except ValueError:
            continue  # the watcher refuses such a spec
    return amounts
