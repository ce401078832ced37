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
_TO_DISK = "the weights are downloaded to the node's disk at every start of the engine"
_NO_CLAIM = (
    "no PVC is available, since spec.cache names no StorageClass and the cluster has no default one: the weights are downloaded to memory at every "
    "start of the engine. Remedy: set spec.cache.storageClass, or mark a StorageClass as the default and change the spec (kubectl get sc)"
)
CHECK, FETCH, LIST, KEEP = KINDS = ("check", "fetch", "list", "keep")


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
    sized_by_files: bool = False
    """Whether the PVC is created with the size that its files need: nothing in the spec names another one."""
    runs: Json = {}
    """Of the Job's Pod: with what its image is pulled, and its RuntimeClass. The result does not depend on it."""
    node: str = ""
    """The node that the Job's Pod is kept on."""

    @property
    def pvc(self) -> str:
        """The name of the PVC that holds the weights, or will hold them; empty if none does."""
        return self.location.claim

    @property
    def digest(self) -> str:
        """The digest of all inputs; empty if no Job is needed, or while the uid of the PVC is unknown."""
        on_pvc = bool(self.pvc) and self.kind != LIST
        if not self.kind or (on_pvc and not self.pvc_uid):
            return ""
        return _digest((self.kind, *self.inputs, *([self.pvc, self.pvc_uid] if on_pvc else [])))

    @property
    def fingerprint(self) -> str:
        """The digest, and that of how and where the Pod runs: a Job that has not begun is of no use once that is another one."""
        parts = [json.dumps(self.runs)] if self.runs else []
        parts += [self.node] if self.node else []
        return f"{self.digest}-{_digest(tuple(parts))}" if parts else self.digest

    def with_pvc(self, uid: str) -> "Plan":
        """Return the plan for the PVC with this uid; empty: it is unknown."""
        return msgspec.structs.replace(self, pvc_uid=uid)

    def first(self) -> "Plan":
        """Return the plan of the Job that comes first: where the PVC is to have the size of the files, and does not exist, they are listed."""
        return msgspec.structs.replace(self, kind=LIST) if self.sized_by_files and not self.pvc_uid else self

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
        return _at_every_start(model, location)
    if location.fetched:
        return Plan(
            location=location,
            kind=FETCH,
            inputs=(location.path,),
            image=settings.image,
            strategy=fetched.strategy(model.spec),
            sized_by_files=location.owned and (model.spec.cache is None or model.spec.cache.size is None),
            runs=pod.runs(model, settings.pods),
            node=model.assigned_node,
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
            node=model.assigned_node,
        )
    return _check_in_image(model, location, backend, settings)


def without_claim(model: Model, plan: Plan) -> Plan:
    """Return the plan of a Model for which no PVC is available."""
    location = msgspec.structs.replace(plan.location, volume=Volume.MEMORY, claim="", owned=False)
    return _at_every_start(model, location)


def _at_every_start(model: Model, location: Location) -> Plan:
    """Return the plan of weights that an init container of the engine downloads."""
    note = _NO_CLAIM if location.volume is Volume.MEMORY else _TO_DISK
    return Plan(location=location, strategy=fetched.strategy(model.spec), note=note)


def _needed(model: Model, location: Location) -> tuple[str, ...]:
    """Return the paths that must be there beside the source: the files that the spec names, and all parts of a split one."""
    folder, _, name = location.path.rpartition("/")
    is_file = name.lower().endswith(".gguf")
    root = folder if is_file else location.path
    names = hf.named_files(model.spec)
    paths = [*hf.split_parts(name), *_projector(model)] if is_file else names
    return tuple(path if path.startswith("/") else f"{root}/{path}" for path in paths)


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
        node=model.assigned_node,
    )
