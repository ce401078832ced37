"""The catalogue: which foreign Go programs we run, in which version, and out of which module each is built. Pure.

A module is a folder below deploy/local with a go.mod and a go.sum and no Go code of ours: its `tool` lines pin what is built.
"""

import re
from collections.abc import Sequence

import msgspec

_NUMBERS = re.compile(rb"(?<![\w.])v?(\d+)\.(\d+)\.(\d+)")


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One program: what is built when none is found, and which versions of one that is found will do.

    `module` is a folder below deploy/local, `package` the Go package to build. A version will do from `oldest` on and before
    `below`, each (major, minor). `asks` are the arguments with which the program prints its version.
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
    asks: tuple[str, ...] = ("--version",)
    minutes: int = 1
    """What a first build takes on two cores, roughly."""

    def suits(self, version: tuple[int, int, int]) -> bool:
        """Tell whether a program of that version will do."""
        return self.oldest <= version[:2] < self.below


def version_in(told: bytes) -> tuple[int, int, int] | None:
    """Return the first version number in what a program printed, such as `Kubernetes v1.37.2`; None when there is none."""
    found = _NUMBERS.search(told)
    return None if found is None else (int(found[1]), int(found[2]), int(found[3]))


def text(version: tuple[int, ...]) -> str:
    """Return a version as people write it."""
    return ".".join(str(number) for number in version)


KUBERNETES = "1.37.2"
_MAJOR, _MINOR, _ = (int(number) for number in KUBERNETES.split("."))
_SAYS = "k8s.io/component-base/version"


def _kubernetes(name: str, minutes: int) -> Source:
    return Source(
        name=name,
        version=KUBERNETES,
        module="kubernetes",
        package=f"k8s.io/kubernetes/cmd/{name}",
        oldest=(_MAJOR, _MINOR),
        below=(_MAJOR, _MINOR + 1),
        settings=(
            f"{_SAYS}.gitVersion=v{KUBERNETES}",
            f"{_SAYS}.gitMajor={_MAJOR}",
            f"{_SAYS}.gitMinor={_MINOR}",
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
