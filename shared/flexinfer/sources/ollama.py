"""ollama://: a name of the Ollama registry, downloaded into a folder that Ollama takes for its own store.

A registry of the Hugging Face hub may be named too; any other host is refused, since a spec must not choose where a Job connects to. The
parts of a name: https://github.com/ollama/ollama/blob/main/types/model/name.go.
"""

import re
from typing import NamedTuple

from flexinfer.api.model import Model
from flexinfer.sources import fetched
from flexinfer.sources.base import Files, Location, Scheme, Source

REGISTRY, LIBRARY, LATEST = "registry.ollama.ai", "library", "latest"
HUB_HOSTS = ("hf.co", "huggingface.co")
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_NAME = re.compile(rf"{_PART}(/{_PART}){{0,2}}(:{_PART})?")


class Name(NamedTuple):
    """The parts of a name, none of them empty."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def short(self) -> str:
        """The name that Ollama lists the model by: without what is the default, and always with a tag."""
        host = () if self.host == REGISTRY else (self.host,)
        namespace = (self.namespace,) if host or self.namespace != LIBRARY else ()
        return f"{'/'.join([*host, *namespace, self.model])}:{self.tag}"


def name_of(text: str) -> Name:
    """Return the parts of a name that `parse` accepts."""
    path, _, tag = text.partition(":")
    *before, model = path.split("/")
    host, namespace = [REGISTRY, LIBRARY][: 2 - len(before)] + before
    return Name(host, namespace, model, tag or LATEST)


def parse(rest: str) -> Source | str:
    """Read `[[<host>/]<namespace>/]<model>[:<tag>]`."""
    if not _NAME.fullmatch(rest) or ".." in rest:
        return f"{rest!r} is not a name of the Ollama registry"
    host = name_of(rest).host
    if host not in (REGISTRY, *HUB_HOSTS):
        registries = ", ".join((REGISTRY, *HUB_HOSTS))
        return f"{host} is not one of the registries {registries} (a mirror is a setting of FlexInfer)"
    return Source(scheme="ollama", name=rest)


def files(source: Source) -> Files:
    """Return what a name stands for: everything that the registry has under its tag."""
    name = name_of(source.name)
    return Files(repository=f"{name.namespace}/{name.model}", revision=name.tag, registry=name.host)


def locate(model: Model, source: Source) -> Location:
    """Return the folder that is Ollama's store."""
    return fetched.location(model, files(source))


SCHEME = Scheme(name="ollama", form="ollama://<model>:<tag>", parse=parse, locate=locate)
