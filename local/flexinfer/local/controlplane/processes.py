"""The four processes of a real control plane on loopback, and their arguments.

Every component authenticates with a certificate of this instance's authority: the API server to etcd, kube-controller-manager,
kube-scheduler and the node to the API server, the API server to the node. RBAC is enabled. Users authenticate with the instance's token,
as with the local API server, and are cluster administrators. `files` writes what these processes read.
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
"""The user that creates the volumes of PVCs: nodes may not, so the local node has a second identity for it."""
SERVICE_RANGE, FIRST_SERVICE = "10.96.0.0/16", "10.96.0.1"
ACCOUNTS = "service-accounts"
"""Name of the key that signs the tokens of ServiceAccounts."""


def folder(instance: Instance) -> Path:
    """Return the folder of the control plane's files."""
    return instance.state / "plane"


def kubeconfig(instance: Instance, component: str) -> Path:
    """Return the kubeconfig of a component of the control plane, or of the node."""
    return folder(instance) / f"{component}.kubeconfig"


def programs_file(instance: Instance) -> Path:
    """Return the file with the paths of the four programs."""
    return folder(instance) / "programs.json"


def audit_policy(instance: Instance) -> Path:
    """Return the audit policy, which exists if the audit log is enabled."""
    return folder(instance) / "audit.json"


def audit_log(instance: Instance) -> Path:
    """Return the audit log: each request, its user, and the RBAC rule that allowed it."""
    return folder(instance) / "audit.log"


def processes(instance: Instance) -> list[Program]:
    """Return the four processes in their start order. Raises InstanceError if `files.write` has not been called."""
    try:
        paths = msgspec.json.decode(programs_file(instance).read_bytes(), type=dict[str, str])
        programs = [paths[source.name] for source in catalogue.CONTROL_PLANE]
    except (OSError, KeyError, msgspec.MsgspecError) as error:
        raise InstanceError(
            f"{folder(instance)} is incomplete: `flexinfer up --api real` writes it again"
        ) from error
    etcd, server, manager, scheduler = programs
    return [
        _etcd(instance, etcd),
        _api_server(instance, server),
        _manager(instance, manager),
        _scheduler(instance, scheduler),
    ]


def _etcd(instance: Instance, path: str) -> Program:
    home, ports, certificates = folder(instance), instance.ports, instance.certificates
    client, peer = f"https://{HOST}:{ports.etcd}", f"https://{HOST}:{ports.etcd_peer}"
    safe = (
        f"--cert-file={certificates}/etcd.crt",
        f"--key-file={certificates}/etcd.key",
        f"--trusted-ca-file={certificates}/ca.crt",
    )
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
        *(
            ("--unsafe-no-fsync",) if instance.api == PLANE else ()
        ),  # data of tests need not survive a power failure
    )
    return Program(name="etcd", stage=STORES, argv=(path, *arguments), probe=Page(port=ports.etcd_health))


def _api_server(instance: Instance, path: str) -> Program:
    home, ports, certificates = folder(instance), instance.ports, instance.certificates
    arguments = (
        f"--bind-address={HOST}",
        f"--advertise-address={HOST}",
        f"--secure-port={ports.api}",
        f"--cert-dir={home}",
        "--endpoint-reconciler-type=none",  # an EndpointSlice refuses loopback addresses
        f"--etcd-servers=https://{HOST}:{ports.etcd}",
        f"--etcd-cafile={certificates}/ca.crt",
        f"--etcd-certfile={certificates}/etcd-client.crt",
        f"--etcd-keyfile={certificates}/etcd-client.key",
        f"--tls-cert-file={certificates}/kube-apiserver.crt",
        f"--tls-private-key-file={certificates}/kube-apiserver.key",
        f"--client-ca-file={certificates}/ca.crt",
        f"--token-auth-file={home}/tokens.csv",
        f"--kubelet-certificate-authority={certificates}/ca.crt",
        f"--kubelet-client-certificate={certificates}/kubelet-client.crt",
        f"--kubelet-client-key={certificates}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={certificates}/{ACCOUNTS}.crt",
        f"--service-account-signing-key-file={certificates}/{ACCOUNTS}.key",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        *(
            (f"--audit-policy-file={audit_policy(instance)}", f"--audit-log-path={audit_log(instance)}")
            if audit_policy(instance).exists()
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
    certificates = instance.certificates
    arguments = (
        *_client_flags(instance, MANAGER, instance.ports.manager),
        f"--service-account-private-key-file={certificates}/{ACCOUNTS}.key",
        f"--root-ca-file={certificates}/ca.crt",
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
        argv=(path, *_client_flags(instance, SCHEDULER, instance.ports.scheduler)),
        probe=Page(port=instance.ports.scheduler, tls=True, path="/healthz"),
    )


def _client_flags(instance: Instance, component: str, port: int) -> tuple[str, ...]:
    """Return the flags of a client of the API server. There is one instance of each: no leader election."""
    config = kubeconfig(instance, component)
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={HOST}",
        f"--secure-port={port}",
        "--leader-elect=false",
    )
