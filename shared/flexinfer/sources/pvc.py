"""pvc://: weights that are already on a PersistentVolumeClaim of the Model's namespace; mounted read-only, never written."""

import re

from flexinfer.api.model import Model
from flexinfer.sources.base import MOUNT, Location, Scheme, Source, Volume, wrong_path

_CLAIM = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def parse(rest: str) -> Source | str:
    """Read `<claim>/<path>`; without a path, the whole volume."""
    claim, _, path = rest.partition("/")
    if not _CLAIM.fullmatch(claim):
        return f"{claim!r} is not the name of a PersistentVolumeClaim"
    path = path.removesuffix("/")
    return (wrong_path(path) if path else "") or Source(scheme="pvc", name=claim, path=path)


def locate(_model: Model, source: Source) -> Location:
    """Return the path below the mount of the PVC."""
    path = f"{MOUNT}/{source.path}" if source.path else MOUNT
    return Location(path=path, volume=Volume.CLAIM, claim=source.name)


SCHEME = Scheme(name="pvc", form="pvc://<claim>/<path>", parse=parse, locate=locate)
