"""How the kubelet reaches its API server."""

import subprocess
import sys
from pathlib import Path

import pytest

from localkube.kubelet.kubeconfig import KubeconfigError, access

JSON = """{"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
"clusters": [{"name": "k", "cluster": {"server": "http://127.0.0.1:8001/"}}],
"users": [{"name": "u", "user": {"token": "t"}}]}"""
YAML = """
current-context: c
contexts: [{name: c, context: {cluster: k, user: u}}]
clusters: [{name: k, cluster: {server: "http://127.0.0.1:8001/"}}]
users: [{name: u, user: {token: t}}]
"""


@pytest.mark.parametrize("text", [pytest.param(JSON, id="JSON"), pytest.param(YAML, id="YAML")])
def test_a_kubeconfig_may_be_json_or_yaml(tmp_path: Path, text: str) -> None:
    """The server without its slash, and the bearer token."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    api = access(str(path))
    assert (api.server, api.bearer(), api.context) == ("http://127.0.0.1:8001", "t", None)


@pytest.mark.parametrize("text", ["{", "[]", "a: [", "current-context: c"])
def test_a_damaged_kubeconfig_is_named(tmp_path: Path, text: str) -> None:
    """The message has its path."""
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match="kubeconfig: "):
        access(str(path))


def test_no_yaml_library_is_loaded_for_json(tmp_path: Path) -> None:
    """The kubeconfigs of `flexinfer up` are JSON: the node needs no YAML."""
    path = tmp_path / "kubeconfig"
    path.write_text(JSON)
    program = (
        "import sys, flexinfer.local.kubelet, localkube.kubelet.kubeconfig as k; "
        f"k.access({str(path)!r}); print('yaml' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
