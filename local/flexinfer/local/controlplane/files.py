"""The files of a real control plane: certificates, kubeconfigs, tokens, the audit policy."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.local.controlplane import processes
from flexinfer.local.controlplane.processes import (
    ACCOUNTS,
    FIRST_SERVICE,
    MANAGER,
    NODE_USER,
    SCHEDULER,
    VOLUMES,
    VOLUMES_USER,
)
from flexinfer.local.identities import NODE_NAME
from flexinfer.local.instance import Instance, read_secret, write_private
from flexinfer.local.kubeconfig import kubeconfig
from flexinfer.runtime import certificates
from flexinfer.runtime.certificates import Subject
from localkube.identities import API_SERVER

_DNS = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_SUBJECTS: Mapping[str, Subject] = {
    "etcd": Subject("etcd", client=True),
    "etcd-client": Subject("kube-apiserver-etcd-client", client=True),
    "kube-apiserver": Subject("kube-apiserver", dns=_DNS, addresses=(FIRST_SERVICE,)),
    "kubelet-client": Subject(API_SERVER, client=True),
    ACCOUNTS: Subject("service-accounts"),
    MANAGER: Subject("system:kube-controller-manager", client=True),
    SCHEDULER: Subject("system:kube-scheduler", client=True),
    NODE_USER: Subject(f"system:node:{NODE_NAME}", "system:nodes", client=True),
    VOLUMES: Subject(VOLUMES_USER, client=True),
}
_WITH_KUBECONFIG = (MANAGER, SCHEDULER, NODE_USER, VOLUMES)
_AUDIT: Mapping[str, object] = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata"}],
}


def write(instance: Instance, programs: Mapping[str, Path], *, audit: bool = False) -> None:
    """Write the files; existing certificates stay. Once `audit` was set, the audit log stays enabled."""
    home = processes.folder(instance)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, subject in _SUBJECTS.items():
        certificates.issue(instance.certificates, _file(name), subject)
    for component in _WITH_KUBECONFIG:
        path = instance.certificates / _file(component)
        user = {"client-certificate": f"{path}.crt", "client-key": f"{path}.key"}
        write_private(processes.kubeconfig(instance, component), kubeconfig(instance, component, user))
    token = read_secret(instance.token_file)
    write_private(home / "tokens.csv", f'{token},flexinfer,flexinfer,"system:masters"\n'.encode())
    if audit:
        write_private(processes.audit_policy(instance), msgspec.json.encode(_AUDIT))
    paths = {name: str(path) for name, path in programs.items()}
    write_private(processes.programs_file(instance), msgspec.json.format(msgspec.json.encode(paths)))


def _file(name: str) -> str:
    """Return the name of a certificate's file. `node` itself is the node's server certificate."""
    return f"{name}-client" if name in _WITH_KUBECONFIG else name
