"""FlexInfer on a test cluster, used by kubectl and by an OpenAI client through the proxy's Service."""

import base64
import json
import time
from collections.abc import Sequence
from typing import Any

import openai
from openai.types.chat import ChatCompletionMessageParam

from tests.node.cluster import Cluster
from tests.node.images import ROOT
from tests.node.waiting import until
from tests.patience import patient

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
    """The deployed product."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.kubectl = cluster.kubectl

    def apply(self) -> None:
        """Apply the overlay as a user does, and wait until all workloads are ready."""
        self.kubectl("apply", "-k", str(OVERLAY))
        self.kubectl("apply", "-f", str(WEIGHTS))
        workloads = self.kubectl("get", "deployments,daemonsets,statefulsets", "-n", SYSTEM, "-o", "name")
        for workload in workloads.split():
            self.kubectl(
                "rollout", "status", workload, "-n", SYSTEM, f"--timeout={patient(_READY_SECONDS):.0f}s"
            )
        self.kubectl(
            "wait",
            "--for=condition=Complete",
            "job/example-weights",
            f"--timeout={patient(_READY_SECONDS):.0f}s",
        )

    def remove(self) -> None:
        """Remove everything as described in docs/how-to/uninstall.md, Models first."""
        self.remove_models()
        self.kubectl("delete", "-f", str(WEIGHTS), "--ignore-not-found", f"--timeout={patient(60):.0f}s")
        self.kubectl("delete", "-k", str(OVERLAY), "--ignore-not-found", f"--timeout={patient(120):.0f}s")

    def model(self, name: str, **spec: Any) -> None:
        """Apply a Model, by default one that llama.cpp serves from the PVC."""
        default = {"backend": "llamacpp", "source": "pvc://models/smollm2.gguf"}
        body = {
            "apiVersion": "ai.flexinfer/v1alpha2",
            "kind": "Model",
            "metadata": {"name": name},
            "spec": default | spec,
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def claim(self, name: str) -> None:
        """Apply a PVC of the node's local storage."""
        spec = {
            "storageClassName": "flexinfer-local",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        }
        body = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(body))

    def patch(self, name: str, **spec: Any) -> None:
        """Change the spec of a Model."""
        self.kubectl("patch", "mdl", name, "--type=merge", "-p", json.dumps({"spec": spec}))

    def delete(self, *names: str) -> None:
        """Delete Models and wait until they are deleted."""
        self.kubectl("delete", "mdl", *names, "--ignore-not-found", f"--timeout={patient(90):.0f}s")

    def remove_models(self) -> None:
        """Delete every Model, then every SharedGroup: its finalizer goes once no Model holds the devices."""
        for kind in ("mdl", "sharedgroups"):
            self.kubectl("delete", kind, "--all", "--all-namespaces", f"--timeout={patient(120):.0f}s")

    def condition(self, name: str, kind: str = "Ready") -> dict[str, Any]:
        """Return a condition of a Model; empty if it has none."""
        conditions = self.cluster.object("mdl", name).get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})

    def ready(self, name: str, seconds: float = _READY_SECONDS) -> float:
        """Wait until a Model is Ready; return how long that took in seconds."""
        began = time.monotonic()
        self.until(name, "Ready", "Ready", seconds)
        return time.monotonic() - began

    def until(self, name: str, kind: str, reason: str, seconds: float, *words: str) -> str:
        """Wait until a condition has a reason and its message contains the words; return the message."""

        def look() -> tuple[bool, str, str]:
            condition = self.condition(name, kind)
            message = str(condition.get("message", ""))
            seen = condition.get("reason") == reason and all(word in message for word in words)
            return seen, str(condition.get("reason")), message

        def matching_message() -> str:
            self._last = look()
            return self._last[2] if self._last[0] else ""

        self._last = (False, "", "")
        try:
            return until(matching_message, seconds, f"{name}: {kind} has reason {reason} {words}")
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {self._last[1:]}\n{self.diagnosis(name)}") from error

    def diagnosis(self, name: str) -> str:
        """Return what a user would inspect when a Model is not as expected."""
        return self.kubectl("describe", "mdl", name) + self.kubectl("get", "pods", "-A", "-o", "wide")

    def phase(self, name: str) -> str:
        """Return the phase of a Model."""
        return str(self.cluster.object("mdl", name).get("status", {}).get("phase", ""))

    def until_phase(self, name: str, phase: str, seconds: float) -> None:
        """Wait until a Model has a phase."""
        until(lambda: self.phase(name) == phase, seconds, f"{name} is {phase}")

    @property
    def proxy_url(self) -> str:
        """The URL of the proxy's Service."""
        service = self.cluster.object("service", "flexinfer-proxy", "-n", SYSTEM)
        return f"http://{service['spec']['clusterIP']}"

    def client(self) -> openai.OpenAI:
        """Return an OpenAI client for the proxy."""
        return openai.OpenAI(
            base_url=f"{self.proxy_url}/v1", api_key=self.api_key, max_retries=0, timeout=patient(90)
        )

    @property
    def api_key(self) -> str:
        """The key that the proxy requires, as docs/how-to/install.md reads it."""
        words = ("get", "secret", "flexinfer-api-key", "-n", SYSTEM, "-o", "jsonpath={.data.key}")
        return base64.b64decode(self.kubectl(*words)).decode()

    def ask(self, model: str) -> str:
        """Send the question to a Model and return the answer."""
        with self.client() as client:
            done = client.chat.completions.create(
                model=model, messages=QUESTION, temperature=0, max_tokens=24
            )
        return done.choices[0].message.content or ""

    def engine(self, name: str) -> dict[str, Any]:
        """Return the Pod of the engine; empty if there is none."""
        output = self.kubectl("get", "pod", f"{name}-0", "--ignore-not-found", "-o", "json")
        pod: dict[str, Any] = json.loads(output or "{}")
        return pod

    def pods(self, component: str) -> Sequence[dict[str, Any]]:
        """Return the Pods of a component."""
        label = f"app.kubernetes.io/component={component}"
        listed: list[dict[str, Any]] = self.cluster.object("pods", "-n", SYSTEM, "-l", label)["items"]
        return listed
