"""What `kubectl apply -k deploy/` brings, on a real API server, but for what would run: there is no node."""

import subprocess
from typing import Any

import yaml

from tests.instance import BIN, Running, until
from tests.manifests import WORKLOADS, Object, objects

SYSTEM = "flexinfer-system"
_FIRST = ("Namespace", "CustomResourceDefinition")


class Kubectl:
    """Plain kubectl with something to read, whatever comes of it."""

    def __init__(self, plane: Running) -> None:
        self._environment = plane.environment()

    def __call__(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run it."""
        return subprocess.run(
            [str(BIN / "kubectl"), *words],
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def taken(self, *words: str, stdin: str = "") -> str:
        """Run it; it must succeed."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def refused(self, *words: str, stdin: str = "") -> str:
        """Run it; it must fail. Returns the complaint."""
        done = self(*words, stdin=stdin)
        assert done.returncode != 0, f"{words}: {done.stdout}"
        return done.stderr


def text(*found: Object) -> str:
    """Return objects as a file."""
    return yaml.safe_dump_all(found)


def first(kubectl: Kubectl) -> None:
    """Apply the Namespace and the definitions, and wait until Models are known."""
    kubectl.taken("apply", "--server-side", "-f", "-", stdin=text(*_of(*_FIRST)))
    kubectl.taken("wait", "--for=condition=Established", "crd/models.ai.flexinfer", "--timeout=30s")


def rest(kubectl: Kubectl) -> None:
    """Apply rights, policies and Services, and wait until the policies hold."""
    others = [obj for obj in objects("base") if obj["kind"] not in (*WORKLOADS, *_FIRST)]
    kubectl.taken("apply", "--server-side", "-f", "-", stdin=text(*others))
    model = a_model("default", source="file:///x.gguf")
    until(lambda: kubectl(*CREATE, stdin=text(model)).returncode != 0, 30, "the policies hold")


def _of(*kinds: str) -> list[Object]:
    return [obj for obj in objects("base") if obj["kind"] in kinds]


CREATE = ("create", "--dry-run=server", "-f", "-")
"""All that admission says, and nothing is kept."""


def a_model(namespace: str, **spec: Any) -> Object:
    """Return a Model."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": namespace},
        "spec": {"backend": "llamacpp", "source": "pvc://models/m.gguf"} | spec,
    }


def namespace(kubectl: Kubectl, name: str, **meta: dict[str, str]) -> str:
    """Make a namespace with labels or annotations, and wait for its own ServiceAccount; returns its name."""
    made = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **meta}}
    kubectl.taken("apply", "--server-side", "-f", "-", stdin=text(made))
    until(lambda: kubectl("get", "serviceaccount", "default", "-n", name).returncode == 0, 30, "it is whole")
    return name
