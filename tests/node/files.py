"""Certificates, kubeconfigs and configuration files of a test cluster."""

import json
from pathlib import Path

import msgspec

from flexinfer.runtime import certificates
from flexinfer.runtime.certificates import Subject
from tests.node.layout import (
    API,
    DOMAIN,
    FIRST,
    FIRST_SERVICE,
    PAUSE_IMAGE,
    REGISTRY,
    REGISTRY_PORT,
    Layout,
    Machine,
)

SERVER, CLIENT, ACCOUNTS = "apiserver", "kubelet-client", "service-accounts"
RUNTIME_CLASS = "nvidia"
"""A handler of the container runtime that a RuntimeClass may name."""
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {
            "level": "Metadata",
            "userGroups": ["system:serviceaccounts:flexinfer-system"],
            "verbs": ["create", "update", "patch", "delete"],
        },
        {"level": "None"},
    ],
}
_DNS = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", f"kubernetes.default.svc.{DOMAIN}")


def write_plane(files: Layout) -> None:
    """Write the files of the control plane, the DNS server and the registry."""
    for folder in ("log", "pid", "etcd", "registry"):
        (files.root / folder).mkdir(parents=True, exist_ok=True)
    _issue(files, SERVER, Subject("kube-apiserver", dns=_DNS, addresses=(FIRST.address, FIRST_SERVICE)))
    _issue(files, CLIENT, Subject("kube-apiserver-kubelet-client", "system:masters", client=True))
    _issue(files, ACCOUNTS, Subject("service-accounts"))
    clients = {
        "admin": Subject("admin", "system:masters", client=True),
        "kube-controller-manager": Subject("system:kube-controller-manager", client=True),
        "kube-scheduler": Subject("system:kube-scheduler", client=True),
        "kube-proxy": Subject("system:kube-proxy", client=True),
    }
    for name, subject in clients.items():
        _kubeconfig(files, name, subject)
    (files.root / "audit.json").write_text(_json(_AUDIT))
    (files.root / "Corefile").write_text(_corefile(files))
    (files.root / "registry.json").write_text(
        _json(
            {
                "version": "0.1",
                "log": {"level": "warn"},
                "storage": {
                    "filesystem": {"rootdirectory": str(files.root / "registry")},
                    "delete": {"enabled": True},
                },
                "http": {"addr": f"0.0.0.0:{REGISTRY_PORT}"},
            }
        )
    )


def write_node(files: Layout, machine: Machine, programs: dict[str, Path], *, evict_below: str = "") -> None:
    """Write the files of one node.

    `evict_below` is the free disk space below which it evicts, such as `90%`.
    """
    home = files.home(machine)
    for folder in ("cni/bin", "cni/conf", f"certs.d/{REGISTRY}", "kubelet", "pods", "cdi"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    subject = Subject(
        f"system:node:{machine.name}", "system:nodes", (machine.name,), (machine.address,), client=True
    )
    _kubeconfig(files, machine.name, subject)
    for name in ("bridge", "host-local", "loopback", "portmap"):
        link = home / "cni" / "bin" / name
        link.unlink(missing_ok=True)
        link.symlink_to(programs[name])
    (home / "cni/conf/10-pods.conflist").write_text(_json(_network(machine)))
    host = f"http://{FIRST.address}:{REGISTRY_PORT}"
    (home / f"certs.d/{REGISTRY}/hosts.toml").write_text(
        f'server = "{host}"\n[host."{host}"]\n  capabilities = ["pull", "resolve"]\n'
    )
    (home / "containerd.toml").write_text(_containerd(files, machine, programs))
    (home / "resolv.conf").write_text(f"nameserver {FIRST.address}\n")
    write_kubelet(files, machine, evict_below=evict_below)


def write_kubelet(files: Layout, machine: Machine, *, evict_below: str = "") -> None:
    """Write kubelet's configuration."""
    home = files.home(machine)
    (home / "kubelet.json").write_text(_json(_kubelet(files, machine, home, evict_below)))


def _issue(files: Layout, name: str, subject: Subject) -> None:
    certificates.issue(files.certificates, name, subject)


def _kubeconfig(files: Layout, name: str, subject: Subject) -> None:
    _issue(files, name, subject)
    certs = files.certificates
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "flexinfer-node",
        "clusters": [{"name": "c", "cluster": {"server": API, "certificate-authority": f"{certs}/ca.crt"}}],
        "users": [
            {
                "name": name,
                "user": {"client-certificate": f"{certs}/{name}.crt", "client-key": f"{certs}/{name}.key"},
            }
        ],
        "contexts": [{"name": "flexinfer-node", "context": {"cluster": "c", "user": name}}],
    }
    path = files.kubeconfig(name)
    path.write_text(_json(content))
    path.chmod(0o600)


def _json(content: object) -> str:
    return msgspec.json.format(msgspec.json.encode(content), indent=1).decode()


def _corefile(files: Layout) -> str:
    return (
        f".:53 {{\n bind {FIRST.address}\n errors\n ready {FIRST.address}:8181\n cache 5\n"
        f" kubernetes {DOMAIN} {{\n  kubeconfig {files.kubeconfig()}\n }}\n}}\n"
    )


def _network(machine: Machine) -> dict[str, object]:
    bridge = {
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": "/var/lib/cni/networks",
            "ranges": [[{"subnet": machine.pods}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "1.0.0", "name": machine.namespace, "plugins": [bridge, ports]}


def _containerd(files: Layout, machine: Machine, programs: dict[str, Path]) -> str:
    home = files.home(machine)
    toml = json.dumps  # for these values a JSON string is a TOML basic string
    return f"""version = 2
root = {toml(f"{home}/containerd")}
state = "/run/containerd/state"
[grpc]
  address = {toml(str(files.socket(machine)))}
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = {toml(PAUSE_IMAGE)}
  restrict_oom_score_adj = true
  cdi_spec_dirs = [{toml(str(files.cdi(machine)))}]
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {toml(f"{home}/cni/bin")}
    conf_dir = {toml(f"{home}/cni/conf")}
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = {toml(f"{home}/certs.d")}
{"".join(_runtime(name, programs["runc"]) for name in ("runc", RUNTIME_CLASS))}"""


def _runtime(name: str, program: Path) -> str:
    """Return a handler of the container runtime; that of a RuntimeClass is the same program under another name."""
    section = f'[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}'
    return (
        f'  {section}]\n    runtime_type = "io.containerd.runc.v2"\n'
        f"    {section}.options]\n      BinaryName = {json.dumps(str(program))}\n"
    )


def _kubelet(files: Layout, machine: Machine, home: Path, evict_below: str) -> dict[str, object]:
    certs = files.certificates
    least = evict_below or "1%"
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": machine.cgroup,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": True,  # without it this kubelet evicts nothing
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{files.socket(machine)}",
        "clusterDNS": [FIRST.address],
        "clusterDomain": DOMAIN,
        "resolvConf": f"{home}/resolv.conf",
        "podLogsDir": f"{home}/pods",
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": f"{certs}/ca.crt"},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": f"{certs}/{machine.name}.crt",
        "tlsPrivateKeyFile": f"{certs}/{machine.name}.key",
        "address": machine.address,
        "healthzBindAddress": machine.address,
        "nodeStatusUpdateFrequency": "2s",
        "nodeLeaseDurationSeconds": 8,
        "volumePluginDir": f"{home}/volume-plugins",
        "evictionPressureTransitionPeriod": "5s",
        "evictionHard": {
            "nodefs.available": least,
            "imagefs.available": "1%",
            "memory.available": "100Mi",
        },
    }
