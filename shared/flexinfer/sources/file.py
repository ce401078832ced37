"""file://: a path inside the engine's container: a file of its image or, on the local node, a file of the host.

No volume is mounted for it.
"""

from flexinfer.api.model import Model
from flexinfer.sources.base import Location, Scheme, Source, wrong_path

_SYSTEM = ("/proc/", "/sys/", "/dev/", "/run/", "/var/run/", "/etc/")
_ALONE = tuple(prefix.removesuffix("/") for prefix in _SYSTEM)
"""Kernel, devices, sockets, mounted Secrets and accounts: an engine whose spec names one shows it in its log."""


def parse(rest: str) -> Source | str:
    """Read an absolute path."""
    if not rest.startswith("/") or rest == "/":
        return "the path must begin with /, so the source has three slashes"
    path = rest.removesuffix("/")
    if path.startswith(_SYSTEM) or path in _ALONE:
        return "the path is one of the system: no weights are there"
    return wrong_path(path[1:]) or Source(scheme="file", path=path)


def locate(_model: Model, source: Source) -> Location:
    """Return the path unchanged."""
    return Location(path=source.path)


SCHEME = Scheme(name="file", form="file:///<path>", parse=parse, locate=locate)
