"""Backends: the engines that FlexInfer can run, one file each, found because the file is here.

A module of this package holds one `BACKEND`. To add an engine, add a file and run `make generate`: nothing else names it. The CRD's
enum, the reference page, image overrides, placement and the local node all read it from here.
"""

from collections.abc import Mapping
from functools import cache

from flexinfer import plugins
from flexinfer.backends.base import ArchitectureRule, Backend, LocalProgram, Problem, Serving

__all__ = [
    "ArchitectureRule",
    "Backend",
    "LocalProgram",
    "Problem",
    "Serving",
    "all_backends",
    "canonical",
    "find",
    "image_keys",
    "local_programs",
    "names",
    "spellings",
]


@cache
def all_backends() -> tuple[Backend, ...]:
    """Return every backend, sorted by name."""
    return tuple(sorted(plugins.discover(__name__, "BACKEND", Backend), key=lambda backend: backend.name))


def find(name: str) -> Backend | None:
    """Return the backend of that name or alias, in any case; None when there is none."""
    return _by_name().get(name.strip().lower())


def canonical(name: str) -> str:
    """Return the name of the backend that a name or alias stands for; the text itself when there is none."""
    backend = find(name)
    return name if backend is None else backend.name


def names() -> tuple[str, ...]:
    """Return the names of all backends, without aliases, sorted."""
    return tuple(backend.name for backend in all_backends())


def spellings() -> tuple[str, ...]:
    """Return every value that `spec.backend` may have: the names, then the aliases, both sorted."""
    return (*names(), *sorted(alias for backend in all_backends() for alias in backend.aliases))


def image_keys() -> tuple[str, ...]:
    """Return the suffix of every `FLEXINFER_IMAGE_` variable that replaces an image, such as `vllm` and `vllm_amd`."""
    return tuple(key for backend in all_backends() for key in backend.image_keys)


def local_programs() -> Mapping[str, LocalProgram]:
    """Return the programs that run an engine on a machine without containers, by the backend's name."""
    return {backend.name: backend.local_program for backend in all_backends() if backend.local_program}


@cache
def _by_name() -> Mapping[str, Backend]:
    return plugins.index(all_backends(), lambda backend: (backend.name, *backend.aliases))
