"""Files: what the four processes of the plane start from: certificates, kubeconfigs, tokens, the audit policy."""

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
    """Write what the four start from; certificates that are there stay. Once audited, always audited."""
    home = processes.folder(instance)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, subject in _SUBJECTS.items():
        certificates.issue(instance.certificates, _file(name), subject)
    for who in _WITH_KUBECONFIG:
        mine = instance.certificates / _file(who)
        user = {"client-certificate": f"{mine}.crt", "client-key": f"{mine}.key"}
        write_private(processes.kubeconfig(instance, who), kubeconfig(instance, who, user))
    token = read_secret(instance.token_file)
    write_private(home / "tokens.csv", f'{token},flexinfer,flexinfer,"system:masters"\n'.encode())
    if audit:
        write_private(processes.audit_policy(instance), msgspec.json.encode(_AUDIT))
    told = {name: str(path) for name, path in programs.items()}
    write_private(processes.programs_file(instance), msgspec.json.format(msgspec.json.encode(told)))


def _file(name: str) -> str:
    """Return the name of a certificate's file: `node` alone is what the node serves with."""
    return f"{name}-client" if name in _WITH_KUBECONFIG else name
