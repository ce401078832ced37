"""Where downloaded weights are kept: on a PVC in a separate folder for each selection of files, unless the spec says otherwise. Pure.

Strategy Memory has a PVC too, whose files are kept in the page cache of the Model's node; only where no PVC is available, they are in a volume in memory.

The folder's name is a digest of the selection, so another revision is another path and another Pod template: an engine that still runs
keeps its files, and an incomplete folder is never mistaken for another, complete one.
"""

from flexinfer.api import conditions
from flexinfer.api.model import Model, ModelSpec
from flexinfer.api.reason import Reason
from flexinfer.sources.base import MOUNT, Files, Location, Volume

MEMORY, SHARED, NONE = "Memory", "SharedPVC", "None"
RETAIN, DELETE = "Retain", "Delete"


def strategy(spec: ModelSpec) -> str:
    """Return where downloaded weights are kept: on a PVC unless the spec says otherwise."""
    return (spec.cache.strategy if spec.cache else None) or SHARED


def reclaim(spec: ModelSpec) -> str:
    """Return what happens to the PVC that FlexInfer made for a Model when that is deleted: it is kept unless the spec says otherwise."""
    return (spec.cache.reclaim_policy if spec.cache else None) or RETAIN


def claim(model: Model) -> str:
    """Return the name of the PVC that keeps the weights."""
    return (model.spec.cache.pvc_name if model.spec.cache else None) or own_claim(model.metadata.name)


def own_claim(name: str) -> str:
    """Return the name of the PVC that FlexInfer makes for a Model of this name."""
    return f"{name}-cache"


def has_no_claim(model: Model) -> bool:
    """Return whether no PVC was available for this generation of a Model: Cached says so, for all who mount the weights."""
    cached = model.condition(conditions.CACHED)
    current = cached is not None and cached.observed_generation == model.metadata.generation
    return cached is not None and current and cached.true and cached.reason == Reason.NO_CLAIM


def location(model: Model, files: Files) -> Location:
    """Return the folder of a selection of files."""
    path = f"{MOUNT}/{model.metadata.name}/{files.fingerprint}"
    kind = strategy(model.spec)
    if kind == NONE:
        return Location(path=path, volume=Volume.DISK, files=files)
    if kind == MEMORY and has_no_claim(model):
        return Location(path=path, volume=Volume.MEMORY, files=files)
    named = model.spec.cache is not None and bool(model.spec.cache.pvc_name)
    return Location(path=path, volume=Volume.CLAIM, claim=claim(model), owned=not named, files=files)
