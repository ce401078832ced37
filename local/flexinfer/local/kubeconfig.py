"""Kubeconfigs for an instance's API server (JSON is YAML)."""

from collections.abc import Mapping

import msgspec

from flexinfer.local.instance import Instance


def kubeconfig(instance: Instance, name: str, user: Mapping[str, str], namespace: str = "") -> bytes:
    """Return a kubeconfig of this instance's API server; `user` holds the credentials, such as a token."""
    cluster = {
        "server": instance.api_url,
        "certificate-authority": str(instance.certificates / "ca.crt"),
    }
    context = {"cluster": "flexinfer", "user": name} | ({"namespace": namespace} if namespace else {})
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "flexinfer",
        "clusters": [{"name": "flexinfer", "cluster": cluster}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": "flexinfer", "context": context}],
    }
    return msgspec.json.format(msgspec.json.encode(content))
