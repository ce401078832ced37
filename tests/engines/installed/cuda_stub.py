"""Lets PyPI's CUDA build of torch be imported without the 3 GB of NVIDIA's packages that it is linked against.

One shared library without any function that works takes the place of all that are missing: it defines every symbol that torch's own
libraries want of them, under its version. `torch.cuda.is_available()` is False then, and torch computes on the CPU. Needs gcc and binutils.
"""

import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_CUDA = re.compile(r"cu|nccl|nvrtc|nvshmem|__cuda|nvtx|CU")
_TEXT = re.compile(r"Get(Error)?(String|Name)$|GetErrorString|StatusString")
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+?)\]")
_SPECIAL = {
    "cudaGetDeviceCount": "int {name}(int *n) {{ if (n) *n = 0; return 100; }}",
    "__cudaRegisterFatBinary": "void *{name}(void *p) {{ return blob; }}",
    "cudaGetLastError": "int {name}(void) {{ return 0; }}",
    "cudaPeekAtLastError": "int {name}(void) {{ return 0; }}",
}


def write(packages: Path) -> int:
    """Write the stub for the torch in a folder of packages; returns how many libraries it stands for. Raises CalledProcessError."""
    libraries = packages / "torch" / "lib"
    files = [file for file in sorted(libraries.glob("*.so*")) if not file.is_symlink()]
    missing = _missing(files, {file.name for file in libraries.glob("*.so*")})
    _compile(libraries, _wanted(files, missing))
    for name in missing:
        (libraries / name).unlink(missing_ok=True)
        (libraries / name).symlink_to("libcudastub.so")
    return len(missing)


def _run(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def _missing(files: Iterable[Path], present: set[str]) -> set[str]:
    """Return the libraries that are wanted, and are neither beside torch's own nor the system's."""
    system = {line.split()[0] for line in _run("/sbin/ldconfig", "-p").splitlines()[1:]}
    wanted = {name for file in files for name in _NEEDED.findall(_run("readelf", "-dW", str(file)))}
    return wanted - present - system


def _wanted(files: Iterable[Path], missing: set[str]) -> Mapping[str, set[str]]:
    """Return version -> symbols that are wanted of missing libraries; the empty version holds those without one."""
    owners: dict[str, str] = {}
    defined: set[str] = set()
    wanted: set[str] = set()
    for file in files:
        owners.update(_versions(file))
        for kind, symbol in _symbols(file):
            (wanted if kind in "Uw" else defined).add(symbol)
    own = {symbol.split("@")[0] for symbol in defined}
    nodes: dict[str, set[str]] = defaultdict(set)
    for symbol in wanted:
        name, _, version = symbol.partition("@")
        version = version.strip("@")
        if owners.get(version) in missing or (not version and name not in own and _CUDA.match(name)):
            nodes[version].add(name)
    return nodes


def _versions(file: Path) -> Iterator[tuple[str, str]]:
    """Yield each version of symbols that a library wants, with the library that it wants it of."""
    owner = ""
    for line in _run("readelf", "-VW", str(file)).splitlines():
        if match := re.search(r"File: (\S+)", line):
            owner = match[1]
        elif owner and (match := re.search(r"Name: (\S+) .*Flags", line)):
            yield match[1], owner


def _symbols(file: Path) -> Iterator[tuple[str, str]]:
    for line in _run("nm", "-D", str(file)).splitlines():
        fields = line.split()
        yield fields[-2], fields[-1]


def _function(name: str) -> str:
    if _TEXT.search(name):
        return f'const char *{name}(int e) {{ return "no CUDA: stub library"; }}'
    ours = (
        "int {name}(void) {{ return 0; }}"
        if name.startswith("__cuda")
        else "int {name}(void) {{ return 100; }}"
    )
    return _SPECIAL.get(name, ours).format(name=name)


def _compile(libraries: Path, nodes: Mapping[str, set[str]]) -> None:
    folder = libraries / "stub"
    folder.mkdir(exist_ok=True)
    names = sorted(set().union(*nodes.values()))
    lines = ["static char blob[4096];", *(_function(name) for name in names)]
    (folder / "stub.c").write_text("\n".join(lines) + "\n")
    versions = [
        f"{version} {{ global: {' '.join(f'{name};' for name in sorted(nodes[version]))} }};"
        for version in sorted(filter(None, nodes))
    ]
    (folder / "stub.map").write_text("\n".join(versions) + "\n")
    _run(
        *("gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", str(libraries / "libcudastub.so")),
        *(str(folder / "stub.c"), f"-Wl,--version-script={folder / 'stub.map'}"),
    )
