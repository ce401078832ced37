"""Requirements: what a Model asks of a node. Pure.

What a node has left for a Model is `state`'s, the comparison of the two is `fit`'s.
"""

from collections.abc import Mapping
from functools import lru_cache

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
    most_devices: int = 0
    """How many devices its engine can use at most; 0: any number."""
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
        """Return whether the Model's Pod tolerates a taint; a Pod with devices tolerates those of GPU nodes."""
        if taint.effect not in _REPELLING_EFFECTS:
            return True
        if any(toleration.covers(taint.key, taint.value, taint.effect) for toleration in self.tolerations):
            return True
        ours = taint.key in _GPU_TAINTS or (taint.key, taint.value) == ("dedicated", "gpu")
        return ours and self.devices > 0 and taint.effect == "NoSchedule"

    def can_use(self, vendor: str, architecture: str) -> bool:
        """Return whether the Model may run on devices of a vendor and architecture at all."""
        return vendor in self.vendors and (
            not self.unsupported or bool(self.excuse) or not self.doubt(vendor, architecture, certain=True)
        )

    def unsupported_reason(self, device: Device) -> str:
        """Return why the engine cannot run on a device of this architecture, as its backend says; empty if it can."""
        return (
            ""
            if self.excuse or not self.unsupported
            else self.doubt(device.vendor, device.architecture, certain=True)
        )

    def doubt(self, vendor: str, architecture: str, *, certain: bool) -> str:
        """Return why the engine cannot run on an architecture, or without `certain` why it may fail there; empty: nothing is known."""
        rules = self.unsupported if certain else self.experimental
        if not rules:
            return ""
        return next((rule.reason for rule in rules if rule.covers(vendor, architecture)), "")


_cached: dict[
    tuple[int, str, int, str, int], tuple[ModelSpec, Requirements]
] = {}  # (id of a spec, excuse, footprint, its source, reserve) -> the spec, so that the id stays its own
_MOST_CACHED = 16384
_LARGEST_KEPT = 4096
"""Bytes of a spec that is kept, as JSON: it may have 1 MB, and every version of a Model has another spec."""


def requirements_of(model: Model, reserve_mb: int = 0) -> Requirements:
    """Return what a Model asks of a node; computed once for each spec, annotation, footprint and reserve of its group."""
    annotations = model.metadata.annotations
    excuse = (
        annotations.get(ALLOW_UNSUPPORTED_ANNOTATION, "").strip()[:_LONGEST_EXCUSE] if annotations else ""
    )
    figure = footprint(model)
    key = id(model.spec), excuse, figure.mb, figure.source, reserve_mb
    entry = _cached.get(key)
    if entry is not None and entry[0] is model.spec:
        return entry[1]
    if len(_cached) >= _MOST_CACHED:
        _cached.clear()
    requirements = _of_equal(model, excuse, figure, reserve_mb)
    if len(msgspec.json.encode(model.spec)) <= _LARGEST_KEPT:
        _cached[key] = model.spec, requirements
    return requirements


_equal: dict[tuple[object, ...], Requirements] = {}


def _of_equal(model: Model, excuse: str, figure: Figure, reserve_mb: int) -> Requirements:
    """Return the one object for all Models that ask for the same: what is computed for one of them then counts for all."""
    spec = model.spec
    gpu, resources = spec.gpu, spec.resources
    key = (
        spec.backend,
        gpu.vendor if gpu is not None else "",
        spec.devices,
        (_items(resources.requests), _items(resources.limits)) if resources is not None else None,
        _items(spec.node_selector) if spec.node_selector else (),
        spec.tolerations,
        _rules(model) if _has_conditions(spec.backend) else (),
        excuse,
        figure.mb,
        figure.source,
        reserve_mb,
    )
    requirements = _equal.get(key)
    if requirements is None:
        if len(_equal) >= _MOST_CACHED:
            _equal.clear()
        requirements = _equal[key] = _computed(model, excuse, figure, reserve_mb)
    return requirements


def _items(values: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple((name, values[name]) for name in sorted(values)) if values else ()


_Rules = tuple[ArchitectureRule, ...]


@lru_cache(maxsize=64)
def _has_conditions(name: str) -> bool:
    """Return whether a backend has rules that apply to some specs alone."""
    backend = backends.find(name)
    rules = (
        (*backend.unsupported_architectures, *backend.experimental_architectures)
        if backend is not None
        else ()
    )
    return any(rule.when for rule in rules)


def _rules(model: Model) -> tuple[_Rules, _Rules]:
    """Return the GPUs on which the Model's engine cannot run, and those on which it may fail, as its backend says of this spec."""
    backend = backends.find(model.spec.backend)
    name, spec = model.metadata.name, model.spec

    def apply(rules: _Rules) -> _Rules:
        return tuple(rule for rule in rules if rule.applies(name, spec))

    if backend is None:
        return (), ()
    return apply(backend.unsupported_architectures), apply(backend.experimental_architectures)


def _computed(model: Model, excuse: str, figure: Figure, reserve_mb: int) -> Requirements:
    gpu, backend = model.spec.gpu, backends.find(model.spec.backend)
    vendor = gpu.vendor if gpu is not None else "cpu"
    backend_vendors = backend.vendors if backend is not None else tuple(GPU_RESOURCES)
    gpu_vendors = tuple(v for v in GPU_RESOURCES if v in backend_vendors) or tuple(GPU_RESOURCES)
    spec, (unsupported, experimental) = model.spec, _rules(model)
    return Requirements(
        devices=spec.devices,
        vendors=(vendor,) if vendor in ("cpu", *GPU_RESOURCES) else gpu_vendors,
        vram_mb=figure.mb,
        footprint_source=figure.source,
        amounts=_amounts(spec.resources or Resources()),
        selector=spec.node_selector,
        tolerations=spec.tolerations,
        backend=backends.canonical(spec.backend),
        most_devices=backend.most_devices if backend is not None else 0,
        unsupported=unsupported,
        experimental=experimental,
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
