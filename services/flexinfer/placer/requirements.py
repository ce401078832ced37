"""Requirements: what a Model asks of a node. Pure.

What a node has left for a Model is `state`'s, the comparison of the two is `fit`'s.
"""

import msgspec

from flexinfer import backends
from flexinfer.api.labels import ALLOW_UNSUPPORTED_ANNOTATION, GPU_RESOURCES
from flexinfer.api.model import Model, ModelSpec
from flexinfer.api.numbers import bounded
from flexinfer.api.podspec import Resources, Toleration
from flexinfer.api.quantity import milli
from flexinfer.backends import ArchitectureRule
from flexinfer.events.nodes import Device, Taint
from flexinfer.placer.footprint import Figure, footprint

_GPU_TAINTS = frozenset({*GPU_RESOURCES.values()})
_REPELLING_EFFECTS = ("NoSchedule", "NoExecute")
_LONGEST_EXCUSE = 200


class Requirements(msgspec.Struct, frozen=True, kw_only=True):
    """A Model's requirements; `amounts` are thousandths, `vram_mb` is MiB over all its devices, 0 if unknown."""

    devices: int
    vendors: tuple[str, ...]
    vram_mb: int
    footprint_source: str = ""
    """Where `vram_mb` is from; empty if it is not known."""
    amounts: dict[str, int]
    """By name."""
    selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    backend: str
    unsupported: tuple[ArchitectureRule, ...] = ()
    """GPUs that the engine cannot run on, as its backend says of this spec."""
    experimental: tuple[ArchitectureRule, ...] = ()
    """GPUs on which it may fail."""
    reserve_mb: int = 0
    """What the Model's shared group never gives out of each device (`spec.reserveMB`), in MiB; 0 in no group."""
    excuse: str = ""
    """Why the user lets it run on GPUs that it is said not to run on; empty: the backend's word counts."""

    @property
    def device_mb(self) -> int:
        """The memory that the Model needs on each of its devices, in MiB: an equal part, rounded up."""
        return -(-self.vram_mb // self.devices) if self.devices else 0

    @property
    def footprint(self) -> int:
        """The memory that the Model reserves on all its devices, in MiB."""
        return bounded(self.vram_mb) if self.devices else 0

    def usable_mb(self, device: Device) -> int:
        """Return what Models may use of a device at most, in MiB: all of it, in a shared group less its reserve."""
        return max(0, device.total_mb - self.reserve_mb)

    def tolerates(self, taint: Taint) -> bool:
        """Tell whether the Model's Pod tolerates a taint; a Pod with devices tolerates those of GPU nodes."""
        if taint.effect not in _REPELLING_EFFECTS:
            return True
        if any(toleration.covers(taint.key, taint.value, taint.effect) for toleration in self.tolerations):
            return True
        ours = taint.key in _GPU_TAINTS or (taint.key, taint.value) == ("dedicated", "gpu")
        return ours and self.devices > 0 and taint.effect == "NoSchedule"

    def unsupported_reason(self, device: Device) -> str:
        """Return why the engine cannot run on a device of this architecture, as its backend says; empty if it can."""
        return "" if self.excuse else self.doubt(device.vendor, device.architecture, certain=True)

    def doubt(self, vendor: str, architecture: str, *, certain: bool) -> str:
        """Return why the engine cannot run on an architecture, or without `certain` why it may fail there; empty: nothing is known."""
        rules = self.unsupported if certain else self.experimental
        if not rules:
            return ""
        return next((rule.reason for rule in rules if rule.covers(vendor, architecture)), "")


_cached: dict[
    tuple[int, str, Figure, int], tuple[ModelSpec, Requirements]
] = {}  # (id of a spec, excuse, footprint, reserve) -> the spec, so that the id stays its own
_MOST_CACHED = 16384


def requirements_of(model: Model, reserve_mb: int = 0) -> Requirements:
    """Return what a Model asks of a node; computed once for each spec, annotation, footprint and reserve of its group."""
    excuse = model.metadata.annotations.get(ALLOW_UNSUPPORTED_ANNOTATION, "").strip()[:_LONGEST_EXCUSE]
    key = id(model.spec), excuse, footprint(model), reserve_mb
    cached = _cached.get(key)
    if cached is not None and cached[0] is model.spec:
        return cached[1]
    if len(_cached) >= _MOST_CACHED:
        _cached.clear()
    _cached[key] = model.spec, _interned(_computed(model, *key[1:]))
    return _cached[key][1]


_equal: dict[tuple[object, ...], Requirements] = {}


def _interned(requirements: Requirements) -> Requirements:
    """Return the one object of all equal requirements: what is computed for one Model then counts for all that ask for the same."""
    values = msgspec.structs.astuple(requirements)
    key = tuple(tuple(sorted(value.items())) if isinstance(value, dict) else value for value in values)
    if len(_equal) >= _MOST_CACHED:
        _equal.clear()
    return _equal.setdefault(key, requirements)


def _computed(model: Model, excuse: str, figure: Figure, reserve_mb: int) -> Requirements:
    gpu, backend = model.spec.gpu, backends.find(model.spec.backend)
    vendor = gpu.vendor if gpu is not None else "cpu"
    supported = backend.vendors if backend is not None else tuple(GPU_RESOURCES)
    gpu_vendors = tuple(v for v in GPU_RESOURCES if v in supported) or tuple(GPU_RESOURCES)
    name, spec = model.metadata.name, model.spec

    def apply(rules: tuple[ArchitectureRule, ...]) -> tuple[ArchitectureRule, ...]:
        return tuple(rule for rule in rules if rule.applies(name, spec))

    return Requirements(
        devices=spec.devices,
        vendors=(vendor,) if vendor in ("cpu", *GPU_RESOURCES) else gpu_vendors,
        vram_mb=figure.mb,
        footprint_source=figure.source,
        amounts=_amounts(spec.resources or Resources()),
        selector=spec.node_selector,
        tolerations=spec.tolerations,
        backend=backends.canonical(spec.backend),
        unsupported=apply(backend.unsupported_architectures) if backend is not None else (),
        experimental=apply(backend.experimental_architectures) if backend is not None else (),
        reserve_mb=reserve_mb,
        excuse=excuse,
    )


def _amounts(resources: Resources) -> dict[str, int]:
    """Return the requests, and the limits where there is no request, as Kubernetes defaults them."""
    amounts = {"pods": 1000}
    for name, quantity in (resources.limits | resources.requests).items():
        try:
            amounts[name] = milli(quantity)
        except ValueError:
            continue  # the watcher refuses such a spec
    return dict(sorted(amounts.items()))
