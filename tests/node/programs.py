"""The programs of a real node: Go programs built from pinned modules, the others from Debian packages."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from flexinfer.local.controlplane import programs
from localkube.controlplane import catalogue
from localkube.controlplane.catalogue import Source

_CONTAINERD = "github.com/containerd/containerd/v2"
_CNI = "github.com/containernetworking/plugins"
PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_PLUGIN_FOLDERS = ("main", "ipam", "main", "meta")
DEBIAN: Mapping[str, str] = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "docker-registry": "docker-registry",
    "ip": "iproute2",
    "iptables": "iptables",
    "nft": "nftables",
    "nsenter": "util-linux",
    "runc": "runc",
}
"""The programs from Debian: program -> package."""


def _containerd(name: str, flag: str) -> Source:
    return Source(
        name=name,
        version="2.4.2",
        module="node/containerd",
        package=f"{_CONTAINERD}/cmd/{name}",
        oldest=(2, 1),  # the first whose CRI tells kubelet its cgroup driver
        below=(3, 0),
        settings=(f"{_CONTAINERD}/version.Version=2.4.2",),
        version_args=(flag,),
    )


def _plugin(name: str, folder: str) -> Source:
    return Source(
        name=name,
        version="1.9.0",
        module="node/cni",
        package=f"{_CNI}/plugins/{folder}/{name}",
        oldest=(1, 4),
        below=(2, 0),
        settings=(f"{_CNI}/pkg/utils/buildversion.BuildVersion=v1.9.0",),
    )


COREDNS = Source(
    name="coredns",
    version="1.14.0",
    module="node/coredns",
    package="github.com/coredns/coredns",
    oldest=(1, 11),
    below=(2, 0),
    version_args=("-version",),
    minutes=2,
)
NODE: Sequence[Source] = (
    catalogue.KUBELET,
    catalogue.KUBE_PROXY,
    _containerd("containerd", "--version"),
    _containerd("containerd-shim-runc-v2", "-v"),
    _containerd("ctr", "--version"),
    *(_plugin(name, folder) for name, folder in zip(PLUGINS, _PLUGIN_FOLDERS, strict=True)),
    COREDNS,
)


class MissingError(Exception):
    """Programs of a node are not installed on this machine; the message names all of them."""


def everything(environment: Mapping[str, str], report: programs.Report) -> dict[str, Path]:
    """Return name -> path of all programs of control plane and node, built where necessary.

    Raises MissingError.
    """
    lacking = {package for name, package in DEBIAN.items() if not shutil.which(name, path=_path(environment))}
    if lacking:
        raise MissingError(
            f"programs are missing: {', '.join(sorted(lacking))}: apt-get install {' '.join(sorted(lacking))}"
        )
    debian = {name: Path(shutil.which(name, path=_path(environment)) or name) for name in DEBIAN}
    try:
        return debian | programs.locate([*catalogue.CONTROL_PLANE, *NODE], environment, report)
    except programs.ProgramError as error:
        raise MissingError(str(error)) from error


def _path(environment: Mapping[str, str]) -> str:
    """Return PATH with the sbin folders, where Debian installs some of the programs."""
    return f"{environment.get('PATH', '')}:/usr/sbin:/sbin"


__all__ = ["DEBIAN", "NODE", "PLUGINS", "MissingError", "everything"]
