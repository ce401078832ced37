"""The figures of a Model's weights, read from the headers of its files. Standard library alone: checks run it.

Whatever cannot be read has no figures: they help to place a Model, and no download fails for want of them.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from flexinfer.prefetcher import gguf, gguf_figures, safetensors

Figures = dict[str, str | int]
_SUFFIX, _INDEX = ".safetensors", ".safetensors.index.json"
_BLOBS = "blobs"
"""Where a store of Ollama has its files, each named by its digest (server/modelpath.go): weights, a projector, texts."""
_MOST_FILES, _LARGEST = 4096, 2**53


def of_files(files: Sequence[Path]) -> Figures:
    """Return the figures of GGUF files that are loaded together: the parts of a model, and its projector; empty if they have none."""
    try:
        contents = [gguf.read(path) for path in files if gguf.is_gguf(path.name, _start(path))]
        return _limited(gguf_figures.figures(contents))
    except (OSError, gguf.LyingHeaderError, ValueError, ArithmeticError):
        return {}


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(gguf.MAGIC))


def of_folder(folder: Path) -> Figures:
    """Return the figures of a folder: a model in safetensors, a pipeline whose parts are in folders below, or a store of Ollama."""
    blobs = folder / _BLOBS
    if blobs.is_dir():
        return of_files(sorted(blobs.glob("sha256-*"))[:_MOST_FILES])
    try:
        files = list(_weights(folder))
        return _limited(safetensors.figures(files, folder / "config.json")) if files else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError):
        return {}


def _limited(figures: Figures) -> Figures:
    return {
        name: min(value, _LARGEST) if isinstance(value, int) else value for name, value in figures.items()
    }


def _weights(folder: Path) -> Iterator[Path]:
    """Yield the files that an engine loads: those of an index, else all; a variant such as fp16 only if there is nothing else."""
    folders = [folder]
    if (folder / "model_index.json").is_file():
        folders = sorted(path for path in folder.iterdir() if path.is_dir())
    for each in folders:
        files = _indexed(each) or sorted(each.glob(f"*{_SUFFIX}"))[:_MOST_FILES]
        plain = [file for file in files if "." not in file.name.removesuffix(_SUFFIX)]
        yield from (file for file in plain or files if file.is_file())


def _indexed(folder: Path) -> list[Path]:
    """Return the files that the index of a folder names; empty without one."""
    index = next(iter(sorted(folder.glob(f"*{_INDEX}"))), None)
    if index is None:
        return []
    names = {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
    return [folder / name for name in sorted(names)[:_MOST_FILES] if "/" not in name]
