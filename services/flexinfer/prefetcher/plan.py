"""Plan: which Job, if any, makes sure that a Model's weights are there. Pure.

A Job's name has a digest of everything that its result depends on. So `status.cache.jobName` is the record
of what was verified: a generation that changes none of it keeps its result without another Job, and a
changed file, revision or PVC is another Job. The manifest of the Job is `jobs`', its state `decide`'s.
"""

import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from flexinfer import backends, sources
from flexinfer.api.model import Model
from flexinfer.backends import Backend
from flexinfer.sources import Location, SourceError, Volume, fetched, hf, pod
from flexinfer.sources.pod import Hub, PodDefaults

Json = dict[str, Any]
CHECK, FETCH = "check", "fetch"


class PrefetchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings that shape a Job: our own image, how the hub is reached, defaults of Pods, and overrides of engines' images."""

    image: str = ""
    hub: Hub = Hub()
    pods: PodDefaults = PodDefaults()
    images: Mapping[str, str] = {}
    """Overrides of images: `vllm_amd` -> image."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A Job of a kind for a Model's weights; no kind: no Job is needed, and `note` says why."""

    location: Location
    kind: str = ""
    inputs: tuple[str, ...] = ()
    """What the Job's result depends on, the identity of the PVC aside."""
    files: tuple[str, ...] = ()
    """Paths that a check requires besides that of the location."""
    pvc_uid: str = ""
    image: str = ""
    root: bool = False
    """Whether the Job's image is an engine's that runs as root."""
    strategy: str = ""
    note: str = ""
    runs: Json = {}
    """Of the Job's Pod: with what its image is pulled, and its RuntimeClass. The result does not depend on it."""

    @property
    def pvc(self) -> str:
        """The name of the PVC that holds the weights, or will hold them; empty if none does."""
        return self.location.claim

    @property
    def digest(self) -> str:
        """The digest of all inputs; empty if no Job is needed, or while the uid of the PVC is unknown."""
        if not self.kind or (self.pvc and not self.pvc_uid):
            return ""
        return _digest((self.kind, *self.inputs, *([self.pvc, self.pvc_uid] if self.pvc else [])))

    @property
    def fingerprint(self) -> str:
        """The digest, and that of how the Pod runs: a Job that has not begun is of no use once that is another one."""
        return f"{self.digest}-{_digest((json.dumps(self.runs),))}" if self.runs else self.digest

    def with_pvc(self, uid: str) -> "Plan":
        """Return the plan for the PVC with this uid; empty: it is unknown."""
        return msgspec.structs.replace(self, pvc_uid=uid)

    def job_name(self, model: Model) -> str:
        """Return the Job's name."""
        return f"{model.metadata.name}-{self.kind}-{self.digest}"


@functools.lru_cache(maxsize=4096)
def _digest(parts: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def plan_of(model: Model, settings: PrefetchSettings) -> Plan | None:
    """Return what a Model's weights need, without the uid of their PVC; None if the spec cannot be served."""
    source, location = sources.parse(model.spec.source), sources.locate(model)
    backend = backends.find(model.spec.backend)
    if isinstance(source, SourceError) or location is None or backend is None:
        return None
    if location.fetched and location.volume is not Volume.CLAIM:
        volume = "memory" if location.volume is Volume.MEMORY else "the node's disk"
        note = f"the weights are downloaded to {volume} at every start of the engine"
        return Plan(location=location, strategy=fetched.strategy(model.spec), note=note)
    if location.fetched:
        return Plan(
            location=location,
            kind=FETCH,
            inputs=(location.path,),
            image=settings.image,
            strategy=fetched.SHARED,
            runs=pod.runs(model, settings.pods),
        )
    if location.claim:
        files = _needed(model, location)
        return Plan(
            location=location,
            kind=CHECK,
            inputs=(location.path, *files),
            files=files,
            image=settings.image,
            runs=pod.runs(model, settings.pods),
        )
    return _check_in_image(model, location, backend, settings)


def _needed(model: Model, location: Location) -> tuple[str, ...]:
    """Return the paths that must be there beside the source: the files that the spec names, and all parts of a split one."""
    folder, _, name = location.path.rpartition("/")
    is_file = name.lower().endswith(".gguf")
    root = folder if is_file else location.path
    named = hf.named_files(model.spec)
    needed = [*hf.split_parts(name), *_projector(model)] if is_file else named
    return tuple(path if path.startswith("/") else f"{root}/{path}" for path in needed)


def _projector(model: Model) -> list[str]:
    """Return the one named file that is read beside a source that is a file itself."""
    return [str(model.spec.config["mmproj"])] if model.spec.config.get("mmproj") else []


def _check_in_image(model: Model, location: Location, backend: Backend, settings: PrefetchSettings) -> Plan:
    """Return the plan of a path inside the image that the engine will run, with that image and its user."""
    placement = model.status.placement
    vendor = placement.vendor if placement is not None and model.spec.devices else "cpu"
    architecture = placement.architecture if placement is not None else ""
    image = model.spec.image or backend.image(vendor, settings.images, architecture)
    return Plan(
        location=location,
        kind=CHECK,
        inputs=(location.path, image),
        image=image,
        root=backend.needs_root(vendor),
        runs=pod.runs(model, settings.pods),
    )
