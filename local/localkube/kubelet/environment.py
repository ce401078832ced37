"""Environment: the variables of a container's process, by kubelet's rules.

A container's own variables are added to a few of the node's that any program of this machine needs (PATH and the like); nothing else of
the node's environment is passed on. ConfigMaps and Secrets are arguments, so nothing here does I/O.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import msgspec

from localkube.kubelet.client import Object
from localkube.kubelet.variable_expansion import expand

Source: TypeAlias = Mapping[str, str] | None  # the data of a ConfigMap or Secret; None when it does not exist
INHERITED = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "LC_ALL",
        "LC_CTYPE",
        "TZ",
        "TMPDIR",
        "LD_LIBRARY_PATH",
        "VIRTUAL_ENV",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
    ]
)
_REFERENCES = {"configMapKeyRef": "configMapRef", "secretKeyRef": "secretRef"}


class ConfigError(Exception):
    """The container cannot be configured yet: something that it refers to is missing. The message names it."""


class Facts(msgspec.Struct, frozen=True):
    """What variables may refer to, besides ConfigMaps and Secrets."""

    pod: Object
    address: str
    host: str
    sources: Mapping[tuple[str, str], Source]  # (configMapRef|secretRef, name) -> data


def inherited(environment: Mapping[str, str]) -> dict[str, str]:
    """Return those of the node's variables that every process gets."""
    return {name: value for name, value in environment.items() if name in INHERITED}


def references(container: Object) -> Iterator[tuple[str, str]]:
    """Yield the ConfigMaps and Secrets that a container's variables name."""
    for entry in container.get("envFrom", ()):
        for kind in ("configMapRef", "secretRef"):
            if kind in entry:
                yield kind, entry[kind]["name"]
    for entry in container.get("env", ()):
        for key, kind in _REFERENCES.items():
            if key in entry.get("valueFrom", {}):
                yield kind, entry["valueFrom"][key]["name"]


def variables(container: Object, facts: Facts) -> dict[str, str]:
    """Return a container's own variables; ConfigError names what is missing."""
    values: dict[str, str] = {}
    for entry in container.get("envFrom", ()):
        values |= _whole(entry, facts)
    for entry in container.get("env", ()):
        if "valueFrom" not in entry:
            values[entry["name"]] = expand(str(entry.get("value", "")), values)
        elif (value := _referred(entry["valueFrom"], container, facts)) is not None:
            values[entry["name"]] = value
    return values


def secret_data(secret: Object) -> dict[str, str]:
    """Return a Secret's data as text."""
    data = secret.get("data") or {}
    return {key: base64.b64decode(value).decode(errors="surrogateescape") for key, value in data.items()}


def _whole(entry: Object, facts: Facts) -> dict[str, str]:
    kind = "configMapRef" if "configMapRef" in entry else "secretRef"
    reference = entry[kind]
    source = facts.sources.get((kind, reference["name"]))
    if source is None:
        if reference.get("optional"):
            return {}
        raise ConfigError(_missing(kind, reference["name"]))
    prefix = entry.get("prefix", "")
    return {prefix + key: value for key, value in source.items()}


def _referred(origin: Object, container: Object, facts: Facts) -> str | None:
    if "fieldRef" in origin:
        return field(origin["fieldRef"]["fieldPath"], facts)
    if "resourceFieldRef" in origin:
        return _resource(origin["resourceFieldRef"], container)
    for key, kind in _REFERENCES.items():
        if key in origin:
            return _keyed(kind, origin[key], facts)
    raise ConfigError(f"valueFrom of {', '.join(origin)} is not offered by the local node")


def _keyed(kind: str, reference: Object, facts: Facts) -> str | None:
    source = facts.sources.get((kind, reference["name"]))
    if source is not None and reference["key"] in source:
        return source[reference["key"]]
    if reference.get("optional"):
        return None
    if source is None:
        raise ConfigError(_missing(kind, reference["name"]))
    what = "ConfigMap" if kind == "configMapRef" else "Secret"
    raise ConfigError(f"couldn't find key {reference['key']} in {what} {reference['name']}")


def _missing(kind: str, name: str) -> str:
    return f'{"configmap" if kind == "configMapRef" else "secret"} "{name}" not found'


def field(path: str, facts: Facts) -> str:
    """Return what a fieldRef stands for; ConfigError when it is none that Kubernetes knows."""
    metadata, spec = facts.pod["metadata"], facts.pod["spec"]
    plain: dict[str, Any] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", "default"),
        "status.podIP": facts.address,
        "status.podIPs": facts.address,
        "status.hostIP": facts.host,
        "status.hostIPs": facts.host,
    }
    if path in plain:
        return str(plain[path])
    for table in ("labels", "annotations"):
        if path.startswith(f"metadata.{table}['") and path.endswith("']"):
            return str(metadata.get(table, {}).get(path[len(f"metadata.{table}['") : -2], ""))
    raise ConfigError(f"field {path} cannot be referred to")


def _resource(reference: Object, container: Object) -> str:
    group, _, name = reference["resource"].partition(".")
    return str(container.get("resources", {}).get(group, {}).get(name, "0"))
