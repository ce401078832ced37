"""Writes the manifests that are generated from others; `make generate` runs it. A contract test fails while one is stale.

base/nats/users.conf   from the permissions that flexinfer.events.permissions holds
install.yaml           from the base, by `kubectl kustomize`
chart/                 from the same: only what users change becomes a value
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from flexinfer.credentials.secrets import USERS
from flexinfer.events.permissions import permissions

DEPLOY = Path(__file__).resolve().parent
ROOT = DEPLOY.parent
BASE, CHART = DEPLOY / "base", DEPLOY / "chart"
MADE = "# Made by deploy/render.py; do not edit.\n"
REGISTRY = "ghcr.io"
EMPTY = '""'
_POD_SPEC = re.compile(r"^(?P<pad> +)enableServiceLinks: false\n", re.MULTILINE)
"""A line that the Pod spec of every component has."""
_NOTES = """\
FlexInfer is installed in the namespace flexinfer-system, with images from {{ .Values.image.registry }}/flexinfer, tag {{ .Values.image.tag }}.
{{- if eq .Values.image.registry "ghcr.io" }}

No image of FlexInfer is published there yet. Unless your nodes have these images, their Pods show ImagePullBackOff: build them, push them to
a registry of your own and install with --set image.registry=... (docs/how-to/images.md).
{{- end }}

  kubectl -n flexinfer-system rollout status deployment/flexinfer-proxy
  kubectl -n flexinfer-system get pods
  flexinfer check          what a Model needs and this cluster lacks, with remedies

The API key of the proxy:

  kubectl -n flexinfer-system get secret flexinfer-api-key -o jsonpath='{.data.key}' | base64 -d
"""
SETTINGS = (
    "FLEXINFER_API_KEY_FILE",
    "FLEXINFER_CLUSTER_DOMAIN",
    "FLEXINFER_DEFAULT_NAMESPACE",
    "FLEXINFER_LOG_LEVEL",
    "FLEXINFER_PULL_SECRETS",
    "FLEXINFER_RUNTIME_CLASS",
    "FLEXINFER_RUNTIME_CLASS_AMD",
    "FLEXINFER_RUNTIME_CLASS_NVIDIA",
)
"""What users of the chart change; they may add any other."""


def users_conf() -> str:
    """Return the users of NATS: each with its permissions, and a password that the environment holds."""
    users = "".join(_user(user) for user in USERS)
    return f"{MADE}authorization {{\n  users: [\n{users}  ]\n}}\n"


def _user(user: str) -> str:
    may = permissions(user)
    lines = "".join(
        f"        {verb}: {{ allow: {json.dumps(list(subjects))} }}\n"
        for verb, subjects in (("publish", may.publish), ("subscribe", may.subscribe))
    )
    return (
        f"    {{\n      user: {user}\n      password: $NATS_PASSWORD_{user.upper()}\n"
        f"      permissions: {{\n{lines}      }}\n    }}\n"
    )


def kustomized(folder: Path) -> str:
    """Return what `kubectl kustomize` makes of a folder."""
    kubectl = str(Path(sys.executable).with_name("kubectl"))
    done = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"render: {done.stderr.strip()}")
    return done.stdout


# --- the chart


def chart(built: str, scheduler: str) -> dict[Path, str]:
    """Return the chart's files, from what the base and the second scheduler build to."""
    objects = [(yaml.safe_load(text), text) for text in _documents(built)]
    settings = next(obj for obj, _ in objects if obj["metadata"]["name"].startswith("flexinfer-settings"))
    definitions = sorted((ROOT / "crds").glob("[a-z]*.yaml"))
    files: dict[Path, str] = {CHART / "crds" / file.name: file.read_text() for file in definitions}
    for obj, text in objects:
        if obj["kind"] == "CustomResourceDefinition":
            continue
        path = CHART / "templates" / f"{_part(obj)}.yaml"
        template = _settings(obj) if obj is settings else _template(text)
        template = template.replace(settings["metadata"]["name"], '{{ include "flexinfer.settings" . }}')
        files[path] = files.get(path, MADE) + f"---\n{template}"
    files[CHART / "templates" / "scheduler.yaml"] = _scheduler(scheduler)
    files[CHART / "templates" / "_names.tpl"] = _names(settings)
    files[CHART / "values.yaml"] = _values(settings)
    files[CHART / "Chart.yaml"] = _about()
    files[CHART / "templates" / "NOTES.txt"] = _NOTES
    return files


def _documents(built: str) -> list[str]:
    return [text for text in re.split(r"^---\n", built, flags=re.MULTILINE) if text.strip()]


def _scheduler(built: str) -> str:
    """Return the template of the second scheduler, which is not installed by default."""
    image = _image_of_the_scheduler(built)
    documents = "".join(f"---\n{text}" for text in _documents(built))
    templated = documents.replace(f"image: {image}", "image: {{ .Values.scheduler.image }}")
    return f"{MADE}{{{{- if .Values.scheduler.enabled }}}}\n{templated}{{{{- end }}}}\n"


def _image_of_the_scheduler(built: str) -> str:
    match = re.search(r"image: (\S+/kube-scheduler:\S+)", built)
    return match[1] if match else ""


def _part(obj: Mapping[str, Any]) -> str:
    """Return which file of the chart an object belongs to: those of the base."""
    kinds = {"NetworkPolicy": "network", "Namespace": "namespace"}
    kind, name = obj["kind"], obj["metadata"]["name"]
    if kind.startswith("ValidatingAdmissionPolicy"):
        return "admission"
    return kinds.get(kind) or name.removeprefix("flexinfer-").partition("-")[0]


def _template(text: str) -> str:
    version = _version()
    changes = (
        (rf"{REGISTRY}/flexinfer/([a-z-]+):{re.escape(version)}", r"{{ .Values.image.registry }}/flexinfer/\1:{{ .Values.image.tag }}"),
        (r"image: (docker\.io/library/nats:\S+)", "image: {{ .Values.nats.image }}"),
        (r"storage: \S+\n(?=\s*$)", "storage: {{ .Values.nats.storage }}\n      {{- with .Values.nats.storageClassName }}\n      storageClassName: {{ . }}\n      {{- end }}\n"),
        (r"(kind: Deployment\nmetadata:(?:\n .*)*?name: flexinfer-proxy(?:\n.*)*?\n  replicas:) 1\n", r"\1 {{ .Values.proxy.replicas }}\n"),
    )  # fmt: skip
    for pattern, replacement in changes:
        text = re.sub(pattern, replacement, text)
    return re.sub(_POD_SPEC, _of_pods, text, count=1)


def _of_pods(match: re.Match[str]) -> str:
    """Return the line of a Pod's spec, and after it the values that all Pods have, or those of the agent."""
    pad, agent = match["pad"], "name: flexinfer-agent\n" in match.string
    lines = [f"{{{{- with .Values.imagePullSecrets }}}}\n{pad}imagePullSecrets: {{{{ toJson . }}}}"]
    if agent:
        lines.append(f"{{{{- with .Values.agent.runtimeClassName }}}}\n{pad}runtimeClassName: {{{{ . }}}}")
    return match[0] + "".join(f"{pad}{line}\n{pad}{{{{- end }}}}\n" for line in lines)


def _settings(obj: Mapping[str, Any]) -> str:
    fixed = "".join(
        f"  {name}: {json.dumps(value)}\n" for name, value in obj["data"].items() if name not in SETTINGS
    )
    return (
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
        f"  name: {obj['metadata']['name']}\n  namespace: {obj['metadata']['namespace']}\ndata:\n{fixed}"
        "  {{- range $name, $value := .Values.settings }}\n  {{ $name }}: {{ $value | quote }}\n  {{- end }}\n"
    )


def _names(settings: Mapping[str, Any]) -> str:
    """Return the name of the settings: the base's for the base's settings, another for others, so that Pods are re-created."""
    values = {name: settings["data"][name] for name in SETTINGS}
    digest = hashlib.sha256(json.dumps(values, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    name = settings["metadata"]["name"]
    return (
        f'{{{{- define "flexinfer.settings" -}}}}\n{{{{- $digest := .Values.settings | toJson | sha256sum -}}}}\n'
        f'{{{{- if eq $digest "{digest}" -}}}}\n{name}\n'
        "{{- else -}}\nflexinfer-settings-{{ $digest | trunc 10 }}\n{{- end -}}\n{{- end -}}\n"
    )


def _values(settings: Mapping[str, Any]) -> str:
    nats = next(obj for obj in _base_objects() if obj["kind"] == "StatefulSet")["spec"]
    claim = nats["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    values = "".join(f"  {name}: {settings['data'][name] or EMPTY}\n" for name in SETTINGS)
    return (
        f"{MADE}image:\n  # Where the images flexinfer/services, agent-nvidia and prefetcher come from. None is published yet: build them\n"
        "  # and push them to a registry of your own (docs/how-to/images.md).\n"
        f"  registry: {REGISTRY}\n  tag: {_version()}\n"
        "# Secrets of the namespace flexinfer-system with which all of these are pulled, such as [{name: my-registry}]. Those for engines and\n"
        "# downloads are the setting FLEXINFER_PULL_SECRETS or spec.imagePullSecrets of a Model.\n"
        "imagePullSecrets: []\n"
        "agent:\n  # RuntimeClass with which the agent reads NVIDIA GPUs where NVIDIA's container runtime is not the default; k3s: nvidia.\n"
        '  runtimeClassName: ""\n'
        f"nats:\n  image: {nats['template']['spec']['containers'][0]['image']}\n  storage: {claim}\n"
        '  # Empty: the cluster\'s default.\n  storageClassName: ""\n'
        "proxy:\n  replicas: 1\n"
        "scheduler:\n  # A second kube-scheduler for other Pods that need GPU memory; its image is of the cluster's version, or one minor older.\n"
        f"  enabled: false\n  image: {_image_of_the_scheduler((DEPLOY / 'scheduler' / 'scheduler.yaml').read_text())}\n"
        f"# Any variable of docs/reference/settings.md may be added.\nsettings:\n{values}"
    )


def _base_objects() -> list[dict[str, Any]]:
    return [obj for obj in yaml.safe_load_all((BASE / "nats.yaml").read_text()) if obj]


def _about() -> str:
    return (
        f"{MADE}apiVersion: v2\nname: flexinfer\nversion: {_version()}\nappVersion: {_version()}\n"
        "description: Serve AI models on Kubernetes from one resource per model.\n"
        'kubeVersion: ">=1.30.0-0"\n'
    )


def _version() -> str:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    return version[1] if version else ""


def files() -> dict[Path, str]:
    """Return every made file by its path, as it should be; the users of NATS must be written before the base is built."""
    built = kustomized(BASE)
    return {
        BASE / "nats" / "users.conf": users_conf(),
        DEPLOY / "install.yaml": MADE + built,
        **chart(built, kustomized(DEPLOY / "scheduler")),
    }


def main() -> None:
    """Write them."""
    (BASE / "nats" / "users.conf").write_text(users_conf())
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
