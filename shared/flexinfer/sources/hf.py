"""HF://: a repository of the Hugging Face hub, or the files of it that a Model needs."""

import re
from collections.abc import Mapping
from typing import Any

from flexinfer.api.model import Model, ModelSpec
from flexinfer.sources import fetched
from flexinfer.sources.base import Files, Location, Scheme, Source

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
_SPLIT = re.compile(r"(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})(?P<suffix>\.gguf)", re.IGNORECASE)
_MOST_PARTS = 1000


def parse(rest: str) -> Source | str:
    """Read `<organisation>/<repository>`."""
    if not _REPOSITORY.fullmatch(rest) or ".." in rest or "--" in rest:
        return f"{rest!r} is not a repository of the hub"
    return Source(scheme="HF", name=rest)


def files(spec: ModelSpec) -> Files:
    """Return which files of its repository a Model needs: with `ggufFile`, that file (and `mmproj`) rather than every quantisation."""
    config = spec.config
    return Files(
        repository=spec.source.partition("://")[2],
        revision=str(config.get("hfRevision") or ""),
        names=tuple(name for name in named_files(spec) if not name.startswith("/")),
        allow=_patterns(config, "hfAllowPatterns"),
        ignore=_patterns(config, "hfIgnorePatterns"),
        unsafe=config.get("allowUnsafeFormats") is True,
    )


def named_files(spec: ModelSpec) -> tuple[str, ...]:
    """Return the files that a spec names, each once: all parts of a split one, and `mmproj`."""
    names = [str(spec.config[key]) for key in ("ggufFile", "modelFile", "mmproj") if spec.config.get(key)]
    return tuple(dict.fromkeys(part for name in names for part in split_parts(name)))


def split_parts(name: str) -> tuple[str, ...]:
    """Return the names of all parts of the split GGUF file that a name is one of; of any other name, that name."""
    match = _SPLIT.fullmatch(name)
    number = int(match["parts"]) if match else 0
    if match is None or not 1 <= int(match["part"]) <= number <= _MOST_PARTS:
        return (name,)
    return tuple(
        f"{match['stem']}-{part:05d}-of-{match['parts']}{match['suffix']}" for part in range(1, number + 1)
    )


def locate(model: Model, _source: Source) -> Location:
    """Return the folder of this selection of files."""
    return fetched.location(model, files(model.spec))


def _patterns(config: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = config.get(key) or ()
    entries = value if isinstance(value, list) else ()  # anything else is refused by the watcher
    parts = value.split(",") if isinstance(value, str) else entries
    patterns = (str(part).strip().removeprefix("/") for part in parts)
    return tuple(dict.fromkeys(p for p in patterns if p and ".." not in p.split("/")))


SCHEME = Scheme(name="HF", form="HF://<organisation>/<repository>", parse=parse, locate=locate)
