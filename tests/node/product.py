"""The product on a test cluster, as somebody meets it who applied its manifests: kubectl, the door's Service, OpenAI's SDK."""

import json
import time
from collections.abc import Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.node.cluster import Cluster
from tests.node.images import ROOT
from tests.node.waiting import until

SYSTEM = "flexinfer-system"
TAG = "dev"
IMAGES = ("services", "agent-nvidia", "prefetcher", "llama-cpu", "volumes", "weights", "nats")
OVERLAY, WEIGHTS = ROOT / "deploy" / "overlays" / "dev", ROOT / "deploy" / "dev" / "weights.yaml"
QUESTION: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
_READY_SECONDS = 120.0


class Product:
    """The product, running."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl

    def apply(self) -> None:
        """Apply the overlay as a user does, and wait until everything is ready."""
        self.kubectl("apply", "-k", str(OVERLAY))
        self.kubectl("apply", "-f", str(WEIGHTS))
        workloads = self.kubectl("get", "deployments,daemonsets,statefulsets", "-n", SYSTEM, "-o", "name")
        for workload in workloads.split():
            self.kubectl("rollout", "status", workload, "-n", SYSTEM, f"--timeout={_READY_SECONDS:.0f}s")
        self.kubectl(
            "wait", "--for=condition=Complete", "job/example-weights", f"--timeout={_READY_SECONDS:.0f}s"
        )

    def remove(self) -> None:
        """Remove everything as docs/how-to/uninstall.md says: the Models first."""
        self.remove_models()
        self.kubectl("delete", "-f", str(WEIGHTS), "--ignore-not-found", "--timeout=60s")
        self.kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", "--timeout=120s")

    def model(self, name: str, **spec: Any) -> None:
        """Apply a Model that llama.cpp serves from the claim, unless the spec says otherwise."""
        usual = {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"}
        body = {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": usual | spec,
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def claim(self, name: str) -> None:
        """Apply a claim of the node's own storage."""
        spec = {
            "storageClassName": "flexinfer-local",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def patch(self, name: str, **spec: Any) -> None:
        """Change a Model's spec."""
        self.kubectl("patch", "mdl", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, *names: str) -> None:
        """Delete Models and wait until they are gone."""
        self.kubectl("delete", "mdl", *names, "--ignore-not-found", "--timeout=90s")

    def remove_models(self) -> None:
        """Delete every Model."""
        self.kubectl("delete", "mdl", "--all", "--all-namespaces", "--timeout=120s")

    def condition(self, name: str, kind: str = "Ready") -> dict[str, Any]:
        """Return a condition of a Model; empty while it has none."""
        told = self.cluster.object("mdl", name).get("status", {}).get("conditions", [])
        return next((c for c in told if c["type"] == kind), {})

    def ready(self, name: str, seconds: float = _READY_SECONDS) -> float:
        """Wait until a Model is Ready; returns how long that took."""
        began = time.monotonic()
        self.until(name, "Ready", "Ready", seconds)
        return time.monotonic() - began

    def until(self, name: str, kind: str, reason: str, seconds: float, *words: str) -> str:
        """Wait until a condition has a reason and its message holds the words; returns the message."""

        def told() -> tuple[bool, str, str]:
            found = self.condition(name, kind)
            message = str(found.get("message", ""))
            seen = found.get("reason") == reason and all(word in message for word in words)
            return seen, str(found.get("reason")), message

        def looked() -> str:
            self._last = told()
            return self._last[2] if self._last[0] else ""

        self._last = (False, "", "")
        try:
            return until(looked, seconds, f"{name}: {kind} has reason {reason} {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}; last told: {self._last[1:]}\n{self.story(name)}") from error

    def story(self, name: str) -> str:
        """Return what a user would look at when a Model is not as expected."""
        return self.kubectl("describe", "mdl", name) + self.kubectl("get", "pods", "-A", "-o", "wide")

    def phase(self, name: str) -> str:
        """Return a Model's phase."""
        return str(self.cluster.object("mdl", name).get("status", {}).get("phase", ""))

    def until_phase(self, name: str, phase: str, seconds: float) -> None:
        """Wait for a Model's phase."""
        until(lambda: self.phase(name) == phase, seconds, f"{name} is {phase}")

    @property
    def door(self) -> str:
        """The address of the door's Service."""
        service = self.cluster.object("service", "flexinfer-proxy", "-n", SYSTEM)
        return f"http://{service['spec']['clusterIP']}"

    def client(self) -> openai.OpenAI:
        """Return the SDK's client for the door."""
        return openai.OpenAI(base_url=f"{self.door}/v1", api_key="none", max_retries=0, timeout=90)

    def ask(self, model: str) -> str:
        """Ask a Model the question, and return the answer."""
        with self.client() as client:
            done = client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=24
            )
        return done.choices[0].message.content or ""

    def engine(self, name: str) -> dict[str, Any]:
        """Return the engine's Pod; empty when there is none."""
        found = self.kubectl("get", "pod", f"{name}-0", "--ignore-not-found", "-o", "json")
        pod: dict[str, Any] = json.loads(found or "{}")
        return pod

    def pods(self, component: str) -> Sequence[dict[str, Any]]:
        """Return the Pods of one of our services."""
        label = f"app.kubernetes.io/component={component}"
        listed: list[dict[str, Any]] = self.cluster.object("pods", "-n", SYSTEM, "-l", label)["items"]
        return listed
