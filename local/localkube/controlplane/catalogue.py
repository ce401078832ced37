"""Catalogue: the Go programs of other projects that localkube runs, their versions, and the modules they are built from. Pure.

A module is a folder below deploy/local with a go.mod and a go.sum and no Go code of its own: its `tool` lines pin what is built.
"""

import re
from collections.abc import Sequence

import msgspec

_NUMBERS = re.compile(rb"(?<![\w.])v?(\d+)\.(\d+)\.(\d+)")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One program: what to build if it is not found, and which versions are accepted if it is.

    `module` is a folder below deploy/local, `package` the Go package to build. Versions from `oldest` on and before
    `below` are accepted, each (major, minor). `version_args` are the arguments with which the program prints its version.
    """

    name: str
    version: str
    module: str
    package: str
    oldest: tuple[int, int]
    below: tuple[int, int]
    settings: tuple[str, ...] = ()
    """Package variables to set by the linker, as `path.name=value`."""
    cgo: bool = False
    version_args: tuple[str, ...] = ("--version",)
    minutes: int = 1
    """Estimate of a first build on two cores."""

    def accepts(self, version: tuple[int, int, int]) -> bool:
        """Return whether a program of that version is accepted."""
        return self.oldest <= version[:2] < self.below


def version_in(output: bytes) -> tuple[int, int, int] | None:
    """Return the first version number in the output of a program, such as `Kubernetes v1.37.2`; None if there is none."""
    match = _NUMBERS.search(output)
    return None if match is None else (int(match[1]), int(match[2]), int(match[3]))


def text(version: tuple[int, ...]) -> str:
    """Return a version as text, such as `1.37`."""
    return ".".join(str(number) for number in version)


KUBERNETES = "1.37.2"
_MAJOR, _MINOR, _ = (int(number) for number in KUBERNETES.split("."))
_VERSION_PACKAGE = "k8s.io/component-base/version"


def _kubernetes(name: str, minutes: int) -> Source:
    return Source(
        name=name,
        version=KUBERNETES,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        oldest=(_MAJOR, _MINOR),
        below=(_MAJOR, _MINOR + 1),
        settings=(
            f"{_VERSION_PACKAGE}.gitVersion=v{KUBERNETES}",
            f"{_VERSION_PACKAGE}.gitMajor={_MAJOR}",
            f"{_VERSION_PACKAGE}.gitMinor={_MINOR}",
        ),
        minutes=minutes,
    )


ETCD = Source(
    name="etcd",
    version="3.7.3",
    module="kubernetes/etcd",
    package="go.etcd.io/etcd/server/v3",
    oldest=(3, 6),
    below=(4, 0),
)
API_SERVER = _kubernetes("kube-apiserver", 6)
CONTROLLER_MANAGER = _kubernetes("kube-controller-manager", 2)
SCHEDULER = _kubernetes("kube-scheduler", 1)
KUBELET = _kubernetes("kubelet", 1)
KUBE_PROXY = _kubernetes("kube-proxy", 1)

CONTROL_PLANE: Sequence[Source] = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
