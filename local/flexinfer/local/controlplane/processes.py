"""The plane: the four processes of a real control plane on loopback, and their arguments.

Every part has a certificate of this instance's authority and shows it: etcd to the API server alone, kube-controller-manager,
kube-scheduler and the node to the API server, the API server to the node. RBAC is on. People come with the instance's token, as they
do to the local API, and are administrators. `files` writes what all this starts from.
"""

from pathlib import Path

import msgspec

from flexinfer.local.instance import PLANE, Instance, InstanceError
from flexinfer.local.ports import HOST
from flexinfer.local.supervisor.program import API, NODE, STORES, Program
from flexinfer.local.supervisor.readiness import Page
from localkube.controlplane import catalogue

MANAGER, SCHEDULER, NODE_USER, VOLUMES = "kube-controller-manager", "kube-scheduler", "node", "volumes"
VOLUMES_USER = "flexinfer:local-volumes"
"""Who makes the volumes behind claims: no node may, so the local node has a second name for it."""
SERVICE_RANGE, FIRST_SERVICE = "10.96.0.0/16", "10.96.0.1"
ACCOUNTS = "service-accounts"
"""The key that signs tokens of ServiceAccounts."""


def folder(instance: Instance) -> Path:
    """Return where the plane keeps its files."""
    return instance.state / "plane"


def kubeconfig(instance: Instance, who: str) -> Path:
    """Return the kubeconfig of one part of the plane, or of the node."""
    return folder(instance) / f"{who}.kubeconfig"


def programs_file(instance: Instance) -> Path:
    """Return the file that says where the four programs are."""
    return folder(instance) / "programs.json"


def audit_policy(instance: Instance) -> Path:
    """Return the file that is there once the API server was told to keep an audit log."""
    return folder(instance) / "audit.json"


def audit_log(instance: Instance) -> Path:
    """Return where the API server writes who asked for what, and which rule allowed it, if it was told to."""
    return folder(instance) / "audit.log"


def processes(instance: Instance) -> list[Program]:
    """Return the four, in the order in which they start; InstanceError when `files.write` has not been called."""
    try:
        paths = msgspec.json.decode(programs_file(instance).read_bytes(), type=dict[str, str])
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
    audited = audit_policy(instance).exists()
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
        f"--service-account-key-file={held}/{ACCOUNTS}.crt",
        f"--service-account-signing-key-file={held}/{ACCOUNTS}.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        *(
            (f"--audit-policy-file={audit_policy(instance)}", f"--audit-log-path={audit_log(instance)}")
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
        f"--service-account-private-key-file={held}/{ACCOUNTS}.key",
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
