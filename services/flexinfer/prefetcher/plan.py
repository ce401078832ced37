"""What must be true before a Model's weights count as there. Pure.

A Job's name holds a digest of everything that it was made for. So the name in `status.cache.jobName` is the memory of what was verified: a
generation that changes none of it gets its verdict at once, and a changed file, revision or claim is another Job.
"""

import hashlib
import json
from collections.abc import Mapping

import msgspec

from flexinfer import backends, sources
from flexinfer.api.model import Model
from flexinfer.sources import Location, SourceError, Volume, hf

CHECK, FETCH = "check", "fetch"


class PrefetchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What of the settings shapes a Job."""

    image: str = ""
    hf_endpoint: str = ""
    images: Mapping[str, str] = {}
    """Overrides of images: `vllm_amd` -> image."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a Model's weights need: a Job of a kind, or nothing but the engine itself.

    `digest` is empty while the claim is not known, or where no Job is needed.
    """

    location: Location
    job: str = ""
    digest: str = ""
    image: str = ""
    root: bool = False
    """Whether the image that looks is an engine's which runs as root."""
    strategy: str = ""
    note: str = ""
    """Why no Job is needed, as a sentence."""

    @property
    def claim(self) -> str:
        """The claim that holds, or will hold, the weights."""
        return self.location.claim

    def name(self, model: Model) -> str:
        """Return the Job's name."""
        return f"{model.metadata.name}-{self.job}-{self.digest}"


def plan(model: Model, claim_uid: str, settings: PrefetchSettings) -> Plan | None:
    """Return what a Model's weights need; None when the spec is not one that we can serve."""
    source, location = sources.parse(model.spec.source), sources.locate(model)
    backend = backends.find(model.spec.backend)
    if isinstance(source, SourceError) or location is None or backend is None:
        return None
    if source.scheme == "ollama":
        return Plan(location=location, note="the engine pulls the weights itself when it starts")
    if location.fetched and location.volume is not Volume.CLAIM:
        where = "memory" if location.volume is Volume.MEMORY else "the node's disk"
        return Plan(
            location=location,
            strategy=hf.strategy(model.spec),
            note=f"the weights are fetched into {where} each time the engine starts",
        )
    if location.fetched:
        made_for: list[str] = [FETCH, location.path, location.claim, claim_uid]
        return Plan(
            location=location,
            job=FETCH,
            digest=_digest(made_for) if claim_uid else "",
            image=settings.image,
            strategy=hf.SHARED,
        )
    if location.claim:
        digest = _digest([CHECK, location.path, location.claim, claim_uid]) if claim_uid else ""
        return Plan(location=location, job=CHECK, digest=digest, image=settings.image)
    placement = model.status.placement
    vendor = placement.vendor if placement is not None and model.spec.devices else "cpu"
    image = backend.image(vendor, settings.images)
    digest = _digest([CHECK, location.path, image])
    return Plan(location=location, job=CHECK, digest=digest, image=image, root=backend.needs_root(vendor))


def _digest(parts: list[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
