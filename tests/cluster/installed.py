"""The objects of `kubectl apply -k deploy/` on a real API server, without workloads: there is no node."""

import subprocess
from typing import Any

import yaml

from tests.instance import BIN, Running, until
from tests.manifests import WORKLOADS, Object, objects
from tests.patience import patient

SYSTEM = "flexinfer-system"
_FIRST = ("Namespace", "CustomResourceDefinition")


class Kubectl:
    """kubectl against a control plane."""

    def __init__(self, plane: Running) -> None:
        self._environment = plane.environment()

    def __call__(self, *words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run kubectl and return its output, success or failure."""
        return subprocess.run(
            [str(BIN / "kubectl"), *words],
            input=stdin,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(60),
        )

    def accepted(self, *words: str, stdin: str = "") -> str:
        """Run kubectl, which must succeed; return its standard output."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def refused(self, *words: str, stdin: str = "") -> str:
        """Run kubectl, which must fail; return its standard error."""
        done = self(*words, stdin=stdin)
        assert done.returncode != 0, f"{words}: {done.stdout}"
        return done.stderr


def text(*manifests: Object) -> str:
    """Return objects as YAML documents."""
    return yaml.safe_dump_all(manifests)


def apply_definitions(kubectl: Kubectl) -> None:
    """Apply the Namespace and the CRD, and wait until Models are served."""
    kubectl.accepted("apply", "--server-side", "-f", "-", stdin=text(*_of(*_FIRST)))
    kubectl.accepted(
        "wait", "--for=condition=Established", "crd/models.ai.flexinfer", f"--timeout={patient(30):g}s"
    )


def apply_policies(kubectl: Kubectl) -> None:
    """Apply RBAC rules, admission policies and Services, and wait until the policies are in effect."""
    others = [obj for obj in objects("base") if obj["kind"] not in (*WORKLOADS, *_FIRST)]
    kubectl.accepted("apply", "--server-side", "-f", "-", stdin=text(*others))
    model = a_model("default", source="file:///x.gguf")
    until(lambda: kubectl(*CREATE, stdin=text(model)).returncode != 0, 30, "the policies are in effect")


def _of(*kinds: str) -> list[Object]:
    return [obj for obj in objects("base") if obj["kind"] in kinds]


CREATE = ("create", "--dry-run=server", "-f", "-")
"""Runs admission and stores nothing."""


def a_model(namespace: str, **spec: Any) -> Object:
    """Return a Model."""
    return {
        "apiVersion": "ai.flexinfer/v1alpha2",
        "kind": "Model",
        "metadata": {"name": "m", "namespace": namespace},
        "spec": {"backend": "llamacpp", "source": "pvc://models/m.gguf"} | spec,
    }


def namespace(kubectl: Kubectl, name: str, **meta: dict[str, str]) -> str:
    """Create a namespace with labels or annotations, and wait for its ServiceAccount; return its name."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, **meta}}
    kubectl.accepted("apply", "--server-side", "-f", "-", stdin=text(body))
    until(
        lambda: kubectl("get", "serviceaccount", "default", "-n", name).returncode == 0,
        30,
        f"the ServiceAccount of {name} exists",
    )
    return name
