"""A Model's footprint: the memory that it takes of its GPUs, and where that figure is from. Pure.

What the spec states counts, unless the engine was seen to hold more: then that does, from its next start on. Else it is what its engine was seen to hold, as long as nothing has changed that this depends on; else what
follows from the headers of its weights, once those are complete; else it is not known. Of an engine that gets a share of the memory,
or that makes use of what is free, nothing is measured: it takes more than it needs.
"""

import hashlib
import json
from collections.abc import Sequence

import msgspec

from flexinfer import backends
from flexinfer.api import conditions
from flexinfer.api.model import Model, ModelSpec
from flexinfer.api.numbers import bounded
from flexinfer.api.placement import ESTIMATE, HEADERS, MEASURED, Placement
from flexinfer.backends.memory import estimate
from flexinfer.events.nodes import Device
from flexinfer.events.workload import PodFacts

_GROWTH, _GROWTH_MB = 0.05, 64
"""A later figure counts only if it is larger by so much: an engine never holds quite the same twice."""


class Figure(msgspec.Struct, frozen=True):
    """A footprint in MiB over all devices, and its source; 0 and empty: it is not known."""

    mb: int = 0
    source: str = ""


_UNKNOWN = Figure()


def source_text(source: str) -> str:
    """Return where a footprint is from, as the end of a figure in a message; empty for one that the spec states."""
    return {HEADERS: " by the headers of its weights", MEASURED: " as measured"}.get(source, "")


def footprint(model: Model) -> Figure:
    """Return a Model's footprint as far as it is known."""
    gpu = model.spec.gpu
    if gpu is None or not gpu.devices:
        return _UNKNOWN
    measurement, estimate = remembered(model), bounded(gpu.vram_estimate_mb or 0)
    if estimate and (measurement is None or not _has_grown(estimate, measurement.footprint_mb)):
        return Figure(estimate, ESTIMATE)
    if measurement is not None:
        return Figure(measurement.footprint_mb, MEASURED)
    return _by_headers(model)


def _by_headers(model: Model) -> Figure:
    backend = backends.find(model.spec.backend)
    headers = model.status.cache.headers if model.status.cache is not None else None
    if backend is None or backend.demand is None or headers is None:
        return _UNKNOWN
    demand = backend.demand(model.spec, headers)
    if demand is None:
        return _UNKNOWN
    return Figure(estimate(headers, demand, model.spec.devices).total_mb, HEADERS)


def remembered(model: Model) -> Placement | None:
    """Return the part of a Model's placement that is worth keeping wherever it goes: a footprint that was measured and is still valid."""
    placement = model.status.placement
    if placement is None or placement.footprint_source != MEASURED or not is_measured(model.spec):
        return None
    if placement.measured_for != subject(model.spec) or not placement.footprint_mb:
        return None
    return Placement(
        footprint_mb=placement.footprint_mb,
        footprint_source=MEASURED,
        measured_at=placement.measured_at,
        measured_for=placement.measured_for,
    )


def is_measured(spec: ModelSpec) -> bool:
    """Return whether what an engine holds may be taken for its footprint: it takes no more than it needs."""
    backend = backends.find(spec.backend)
    greedy = backend is not None and (backend.takes_share(spec) or backend.takes_free(spec))
    return bool(spec.devices) and spec.gpu is not None and not greedy


def subject(spec: ModelSpec) -> str:
    """Return a digest of what the memory of an engine depends on."""
    parts = (backends.canonical(spec.backend), spec.source, spec.config, spec.devices)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def recorded(placement: Placement, model: Model, devices: Sequence[Device]) -> Placement:
    """Return a placement with a Model's footprint, an equal part of it on each device; `devices` are those of its node."""
    totals = {device.uuid: device.total_mb for device in devices}
    figure, previous = footprint(model), remembered(model) or Placement()
    each = -(-figure.mb // model.spec.devices) if model.spec.devices else 0
    return msgspec.structs.replace(
        placement,
        devices=tuple(
            msgspec.structs.replace(device, memory_mb=each, total_mb=totals.get(device.uuid, device.total_mb))
            for device in placement.devices
        ),
        footprint_mb=figure.mb,
        footprint_source=figure.source,
        measured_at=previous.measured_at if figure.source == MEASURED else "",
        measured_for=previous.measured_for if figure.source == MEASURED else "",
    )


def measured(model: Model, pods: Sequence[PodFacts], devices: Sequence[Device]) -> Model | None:
    """Return a Model with what its engine is seen to hold as its footprint; None if that is not seen, or nothing new.

    `devices` are those of its node, from a sample taken after it became ready. A figure that is valid, or stated, is replaced by a larger one
    alone: an engine may take more memory while it works, and who stated it may know of memory that is taken later.
    """
    ready = model.condition(conditions.READY)
    if ready is None or not model.is_true(conditions.READY) or not is_measured(model.spec):
        return None
    held_mb, previous = _held(model, pods, devices), footprint(model)
    if not held_mb or (previous.source in (MEASURED, ESTIMATE) and not _has_grown(previous.mb, held_mb)):
        return None
    placement = msgspec.structs.replace(
        model.status.placement or Placement(),
        footprint_mb=held_mb,
        footprint_source=MEASURED,
        measured_at=ready.last_transition_time,
        measured_for=subject(model.spec),
    )
    return msgspec.structs.replace(model, status=msgspec.structs.replace(model.status, placement=placement))


def _held(model: Model, pods: Sequence[PodFacts], devices: Sequence[Device]) -> int:
    """Return what a Model's Pods hold on as many devices as it has, in MiB; 0 if that is not known of each."""
    uids = frozenset(pod.uid for pod in pods)
    own = [device for device in devices if any(process.pod_uid in uids for process in device.processes)]
    if len(own) != model.spec.devices or not all(device.healthy and device.processes_known for device in own):
        return 0
    used_mb = [sum(p.used_mb for p in device.processes if p.pod_uid in uids) for device in own]
    return sum(used_mb) if all(used_mb) else 0


def _has_grown(previous_mb: int, held_mb: int) -> bool:
    return held_mb > previous_mb + max(_GROWTH_MB, _GROWTH * previous_mb)
