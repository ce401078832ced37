"""The plane: the four processes of a real control plane on loopback, with the files that they start from.

Every part has a certificate of this instance's authority and shows it: etcd to the API server alone, kube-controller-manager,
kube-scheduler and the node to the API server, the API server to the node. RBAC is on. People come with the instance's token, as they
do to the local API, and are administrators.
"""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from flexinfer.local.api import certificates
from flexinfer.local.api.certificates import Subject
from flexinfer.local.instance import HOST, PLANE, Instance, InstanceError, read_secret, write_private
from flexinfer.local.kubernetes import catalogue
from flexinfer.local.node.server import API_SERVER
from flexinfer.local.supervisor.program import API, NODE, STORES, Program
from flexinfer.local.supervisor.readiness import Page

NODE_NAME = "local"
MANAGER, SCHEDULER, NODE_USER, VOLUMES = "kube-controller-manager", "kube-scheduler", "node", "volumes"
VOLUMES_USER = "flexinfer:local-volumes"
"""Who makes the volumes behind claims: no node may, so the local node has a second name for it."""
_SERVICES, _FIRST_SERVICE = "10.96.0.0/16", "10.96.0.1"
_ACCOUNTS = "service-accounts"
_DNS = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local")
_SUBJECTS: Mapping[str, Subject] = {
    "etcd": Subject("etcd", client=True),
    "etcd-client": Subject("kube-apiserver-etcd-client", client=True),
    "kube-apiserver": Subject("kube-apiserver", dns=_DNS, addresses=(_FIRST_SERVICE,)),
    "kubelet-client": Subject(API_SERVER, client=True),
    _ACCOUNTS: Subject("service-accounts"),
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


def folder(instance: Instance) -> Path:
    """Return where the plane keeps its files."""
    return instance.state / "plane"


def kubeconfig(instance: Instance, who: str) -> Path:
    """Return the kubeconfig of one part of the plane, or of the node."""
    return folder(instance) / f"{who}.kubeconfig"


def audit_log(instance: Instance) -> Path:
    """Return where the API server writes who asked for what, and which rule allowed it, if it was told to."""
    return folder(instance) / "audit.log"


def write_files(instance: Instance, programs: Mapping[str, Path], *, audit: bool = False) -> None:
    """Write what the four start from; certificates that are there stay. Once audited, always audited."""
    home = folder(instance)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, subject in _SUBJECTS.items():
        certificates.issue(instance.certificates, _file(name), subject)
    for who in _WITH_KUBECONFIG:
        write_private(kubeconfig(instance, who), _kubeconfig(instance, who))
    token = read_secret(instance.token_file)
    write_private(home / "tokens.csv", f'{token},flexinfer,flexinfer,"system:masters"\n'.encode())
    if audit:
        write_private(home / "audit.json", msgspec.json.encode(_AUDIT))
    told = {name: str(path) for name, path in programs.items()}
    write_private(home / "programs.json", msgspec.json.format(msgspec.json.encode(told)))


def _file(name: str) -> str:
    """Return the name of a certificate's file: `node` alone is what the node serves with."""
    return f"{name}-client" if name in _WITH_KUBECONFIG else name


def _kubeconfig(instance: Instance, who: str) -> bytes:
    mine = instance.certificates / _file(who)
    cluster = {
        "server": instance.api_url,
        "certificate-authority": str(certificates.authority_file(instance.certificates)),
    }
    user = {"client-certificate": f"{mine}.crt", "client-key": f"{mine}.key"}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": who,
        "clusters": [{"name": "plane", "cluster": cluster}],
        "users": [{"name": who, "user": user}],
        "contexts": [{"name": who, "context": {"cluster": "plane", "user": who}}],
    }
    return msgspec.json.format(msgspec.json.encode(content))


def processes(instance: Instance) -> list[Program]:
    """Return the four, in the order in which they start; InstanceError when `write_files` has not been called."""
    try:
        paths = msgspec.json.decode((folder(instance) / "programs.json").read_bytes(), type=dict[str, str])
        found = [paths[source.name] for source in catalogue.CONTROL_PLANE]
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise InstanceError(
            f"{folder(instance)} is not whole: `flexinfer up --api real` writes it anew"
        ) from error
    etcd, server, manager, scheduler = found
    return [
        _etcd(instance, etcd),
        _api_server(instance, server),
        _manager(instance, manager),
        _scheduler(instance, scheduler),
    ]


def _etcd(instance: Instance, path: str) -> Program:
    home, ports, held = folder(instance), instance.ports, instance.certificates
    client, peer = f"https://{HOST}:{ports.etcd}", f"https://{HOST}:{ports.etcd_peer}"
    safe = (f"--cert-file={held}/etcd.crt", f"--key-file={held}/etcd.key", f"--trusted-ca-file={held}/ca.crt")
    arguments = (
        "--name=plane",
        f"--data-dir={home}/etcd",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=plane={peer}",
        f"--listen-metrics-urls=http://{HOST}:{ports.etcd_health}",
        *("--client-cert-auth", *safe),
        *("--peer-client-cert-auth", *(f"--peer-{flag.removeprefix('--')}" for flag in safe)),
        "--log-level=warn",
        *(("--unsafe-no-fsync",) if instance.world == PLANE else ()),  # a test's data may go with the machine
    )
    return Program(name="etcd", stage=STORES, argv=(path, *arguments), probe=Page(port=ports.etcd_health))


def _api_server(instance: Instance, path: str) -> Program:
    home, ports, held = folder(instance), instance.ports, instance.certificates
    audited = (home / "audit.json").exists()
    arguments = (
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={ports.api}",
        f"--cert-dir={home}",
        "--endpoint-reconciler-type=none",  # an EndpointSlice refuses loopback addresses
        f"--etcd-servers=https://{HOST}:{ports.etcd}",
        f"--etcd-cafile={held}/ca.crt",
        f"--etcd-certfile={held}/etcd-client.crt",
        f"--etcd-keyfile={held}/etcd-client.key",
        f"--tls-cert-file={held}/kube-apiserver.crt",
        f"--tls-private-key-file={held}/kube-apiserver.key",
        f"--client-ca-file={held}/ca.crt",
        f"--token-auth-file={home}/tokens.csv",
        f"--kubelet-certificate-authority={held}/ca.crt",
        f"--kubelet-client-certificate={held}/kubelet-client.crt",
        f"--kubelet-client-key={held}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={held}/{_ACCOUNTS}.crt",
        f"--service-account-signing-key-file={held}/{_ACCOUNTS}.key",
        f"--service-cluster-ip-range={_SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        *(
            (f"--audit-policy-file={home}/audit.json", f"--audit-log-path={audit_log(instance)}")
            if audited
            else ()
        ),
    )
    return Program(
        name="kube-apiserver",
        stage=API,
        argv=(path, *arguments),
        probe=Page(port=ports.api, tls=True),
        grace=30.0,
    )


def _manager(instance: Instance, path: str) -> Program:
    held = instance.certificates
    arguments = (
        *_leaning(instance, MANAGER, instance.ports.manager),
        f"--service-account-private-key-file={held}/{_ACCOUNTS}.key",
        f"--root-ca-file={held}/ca.crt",
        "--use-service-account-credentials",
    )
    return Program(
        name=MANAGER,
        stage=NODE,
        argv=(path, *arguments),
        probe=Page(port=instance.ports.manager, tls=True, path="/healthz"),
    )


def _scheduler(instance: Instance, path: str) -> Program:
    return Program(
        name=SCHEDULER,
        stage=NODE,
        argv=(path, *_leaning(instance, SCHEDULER, instance.ports.scheduler)),
        probe=Page(port=instance.ports.scheduler, tls=True, path="/healthz"),
    )


def _leaning(instance: Instance, who: str, port: int) -> tuple[str, ...]:
    """Return what every client of the API server is told; there is one of each, so nobody need be elected."""
    config = kubeconfig(instance, who)
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={HOST}",
        f"--secure-port={port}",
        "--leader-elect=false",
    )
