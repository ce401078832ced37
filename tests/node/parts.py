"""The processes of a test cluster with their command lines, in the order of their start."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.node import files
from tests.node.layout import (
    FIRST,
    POD_RANGE,
    SERVICE_RANGE,
    Layout,
    Machine,
)

_STORE = "http://127.0.0.1:2379"
_ROOT = Path(__file__).resolve().parents[2]
_ALONE = "--leader-elect=false"
Programs = Mapping[str, Path]


class Part(msgspec.Struct, frozen=True):
    """One process: its name in this cluster, the node in whose namespace it runs, and its command line."""

    name: str
    machine: Machine
    argv: tuple[str, ...]


def store(layout: Layout, programs: Programs) -> Part:
    """Return etcd, without fsync, since the data of a test need not survive the machine."""
    peer = "http://127.0.0.1:2380"
    arguments = (
        f"--data-dir={layout.root}/etcd",
        *(f"--listen-client-urls={_STORE}", f"--advertise-client-urls={_STORE}"),
        *(f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"),
        f"--initial-cluster=default={peer}",
        *("--log-level=warn", "--unsafe-no-fsync"),
    )
    return _part("etcd", FIRST, programs, *arguments)


def api_server(layout: Layout, programs: Programs) -> Part:
    """Return the API server, on the first node's address."""
    certs = layout.certificates
    arguments = (
        f"--etcd-servers={_STORE}",
        *(f"--bind-address={FIRST.address}", f"--advertise-address={FIRST.address}", "--secure-port=6443"),
        f"--cert-dir={layout.root}",
        f"--tls-cert-file={certs}/{files.SERVER}.crt",
        f"--tls-private-key-file={certs}/{files.SERVER}.key",
        f"--client-ca-file={certs}/ca.crt",
        f"--kubelet-client-certificate={certs}/{files.CLIENT}.crt",
        f"--kubelet-client-key={certs}/{files.CLIENT}.key",
        f"--kubelet-certificate-authority={certs}/ca.crt",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certs}/{files.ACCOUNTS}.crt",
        f"--service-account-signing-key-file={certs}/{files.ACCOUNTS}.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        *(f"--audit-policy-file={layout.root}/audit.json", f"--audit-log-path={layout.audit}"),
    )
    return _part("kube-apiserver", FIRST, programs, *arguments)


def manager(layout: Layout, programs: Programs) -> Part:
    """Return the controller manager; it detects a lost node after 12 s instead of 50 s to shorten the tests."""
    certs = layout.certificates
    arguments = (
        f"--kubeconfig={layout.kubeconfig('kube-controller-manager')}",
        f"--service-account-private-key-file={certs}/{files.ACCOUNTS}.key",
        f"--root-ca-file={certs}/ca.crt",
        "--use-service-account-credentials",
        *("--node-monitor-period=2s", "--node-monitor-grace-period=12s"),
        _ALONE,
    )
    return _part("kube-controller-manager", FIRST, programs, *arguments)


def scheduler(layout: Layout, programs: Programs) -> Part:
    """Return the scheduler."""
    config = layout.kubeconfig("kube-scheduler")
    return _part("kube-scheduler", FIRST, programs, f"--kubeconfig={config}", _ALONE)


def registry(layout: Layout, programs: Programs) -> Part:
    """Return the image registry."""
    return _part("docker-registry", FIRST, programs, "serve", f"{layout.root}/registry.json")


def names(layout: Layout, programs: Programs) -> Part:
    """Return the DNS server; kubelets configure the address of the first node in their Pods."""
    return _part("coredns", FIRST, programs, "-conf", f"{layout.root}/Corefile")


def containerd(layout: Layout, machine: Machine, programs: Programs) -> Part:
    """Return the container runtime of a node.

    The shim must be on PATH: with `runtime_path` containerd finds it for a start, but after its own restart
    for sandboxes only, and treats all other containers as dead (`failed to resolve runtime path`, seen with
    2.4.2).
    """
    part = _part("containerd", machine, programs, "--config", f"{layout.home(machine)}/containerd.toml")
    path = f"PATH={programs['containerd-shim-runc-v2'].parent}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    return Part(part.name, machine, ("env", path, *part.argv))


def kubelet(layout: Layout, machine: Machine, programs: Programs) -> Part:
    """Return the kubelet of a node."""
    home = layout.home(machine)
    arguments = (
        f"--config={home}/kubelet.json",
        f"--kubeconfig={layout.kubeconfig(machine.name)}",
        f"--hostname-override={machine.name}",
        f"--node-ip={machine.address}",
        f"--root-dir={home}/kubelet",
    )
    return _part("kubelet", machine, programs, *arguments)


def services(layout: Layout, machine: Machine, programs: Programs) -> Part:
    """Return kube-proxy of a node.

    It does not change the limits of connection tracking, which belong to the machine.
    """
    arguments = (
        f"--kubeconfig={layout.kubeconfig('kube-proxy')}",
        "--proxy-mode=nftables",
        f"--hostname-override={machine.name}",
        f"--cluster-cidr={POD_RANGE}",
        *("--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0s"),
        "--conntrack-tcp-timeout-close-wait=0s",
    )
    return _part("kube-proxy", machine, programs, *arguments)


def dra_driver(layout: Layout, machine: Machine) -> Part:
    """Return a DRA driver with the devices of the node's file; kubelet's own identity is enough for it."""
    return _plugin(
        "dra_driver",
        machine,
        f"--node={machine.name}",
        f"--kubeconfig={layout.kubeconfig(machine.name)}",
        f"--devices={layout.devices(machine)}",
        f"--plugins={layout.home(machine)}/kubelet/plugins_registry",
        f"--cdi={layout.cdi(machine)}",
    )


def device_plugin(layout: Layout, machine: Machine) -> Part:
    """Return a device plugin with the devices of the node's file; kubelet's folder for them follows no setting."""
    folder = "--plugins=/var/lib/kubelet/device-plugins"
    return _plugin("device_plugin", machine, folder, f"--devices={layout.devices(machine)}")


def _plugin(module: str, machine: Machine, *arguments: str) -> Part:
    """Return a program of this folder; in the view of a node it has another working folder."""
    path = f"PYTHONPATH={os.pathsep.join((str(_ROOT), os.environ.get('PYTHONPATH', '')))}"
    return Part(module, machine, ("env", path, sys.executable, "-m", f"tests.node.{module}", *arguments))


def _part(name: str, machine: Machine, programs: Programs, *arguments: str) -> Part:
    shown = name if machine == FIRST else f"{name}-{machine.name}"
    return Part(shown, machine, (str(programs[name]), *arguments))
