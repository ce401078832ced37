"""The product on a real node, whose engine is the stub in a container; requests to it, and the same stub as a bare Pod."""

import asyncio
import contextlib
import json
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from flexinfer.runtime.kubernetes.api import PODS, NotFoundError
from flexinfer.runtime.kubernetes.client import KubernetesClient
from tests.node import images
from tests.node.__main__ import report
from tests.node.cluster import running_cluster
from tests.node.layout import REGISTRY, layout
from tests.node.product import IMAGES, SYSTEM, TAG, Product

STUB = f"{REGISTRY}/flexinfer/stub:bench"
_REQUEST_SECONDS = 120
_DOCKERFILE = f"""FROM {REGISTRY}/flexinfer/services:{TAG}
COPY stub_engine.py /stub_engine.py
ENTRYPOINT ["python", "-S", "-E", "/stub_engine.py"]
"""


class Answer(msgspec.Struct, frozen=True):
    """One response of a stub, by the monotonic clock of the machine: when it was asked for, when its first byte came, and what the stub says of its own start."""

    requested: float
    first_byte: float
    started: float
    ready: float

    @property
    def spawned(self) -> float:
        """The seconds from the request until the engine's process ran."""
        return self.started - self.requested

    @property
    def answered(self) -> float:
        """The seconds from its readiness to the first byte."""
        return self.first_byte - self.ready

    @property
    def overhead(self) -> float:
        """The time without that of the engine."""
        return self.spawned + self.answered


@contextlib.contextmanager
def stubbed() -> Iterator[Product]:
    """Run the product on a node with the stub in the place of llama.cpp on the CPU; the node of `make node-up` is used, and kept."""
    with running_cluster(layout(), report) as cluster:
        images.push_product(IMAGES, TAG)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "Dockerfile").write_text(_DOCKERFILE)
            shutil.copy(Path(__file__).with_name("stub_engine.py"), folder)
            images.push_folder(STUB, Path(folder))
        product = Product(cluster)
        product.apply()
        product.kubectl(
            *("set", "env", "-n", SYSTEM, "deployment/flexinfer-launcher", "deployment/flexinfer-prefetcher"),
            f"FLEXINFER_IMAGE_LLAMACPP_CPU={STUB}",
        )
        for name in ("launcher", "prefetcher"):
            product.kubectl("rollout", "status", f"deployment/flexinfer-{name}", "-n", SYSTEM)
        try:
            yield product
        finally:
            product.remove_models()
            product.apply()


class Proxy:
    """The Service of the proxy, with the key that it requires."""

    def __init__(self, product: Product) -> None:
        self._url, self._key = product.proxy_url, product.api_key

    def ask(self, model: str) -> Answer | None:
        """Send a request to a Model; return None if it fails."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        url = f"{self._url}/v1/chat/completions"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        requested = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=_REQUEST_SECONDS) as answer:
                return _answer(requested, time.monotonic(), answer.read())
        except urllib.error.HTTPError as error:
            print(f"  a request failed: HTTP {error.code} {error.read().decode()}", flush=True)
            return None


def _answer(requested: float, first_byte: float, body: bytes) -> Answer:
    times = msgspec.json.decode(body)
    return Answer(requested, first_byte, times["started"], times["ready"])


class BarePod(msgspec.Struct, frozen=True):
    """A bare Pod, from its POST until the API server has it no more; `ending` is when its deletion was asked for."""

    uid: str
    start: Answer
    ending: float
    gone: float


async def bare_pod(cluster: KubernetesClient, claim: str, *, grace: int | None = 0, **spec: Any) -> BarePod:
    """Start the stub as a bare Pod, poll it every 5 ms, and delete it again."""
    version = (await cluster.list(PODS, "default")).version
    requested = time.monotonic()
    pod = await cluster.create(PODS, "default", _pod(claim, spec))
    address, answer = await _address(cluster, version), b""
    while not answer:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/health", timeout=1) as response:
                first_byte = time.monotonic()
                answer = response.read()
        except OSError:
            time.sleep(0.005)
    ending = time.monotonic()
    await cluster.delete(PODS, "default", "bare", grace=grace)
    with contextlib.suppress(NotFoundError):
        while await cluster.get(PODS, "default", "bare"):
            await asyncio.sleep(0.01)
    return BarePod(pod.metadata.uid, _answer(requested, first_byte, answer), ending, time.monotonic())


async def _address(cluster: KubernetesClient, version: str) -> str:
    """Return the address of the bare Pod as soon as a watch sends it."""
    async for change in cluster.watch(PODS, version):
        pod = change.object
        if pod is not None and pod.metadata.name == "bare" and pod.status.pod_ip:
            return pod.status.pod_ip
    raise SystemExit("the watch of the bare Pod ended")


def _pod(claim: str, spec: dict[str, Any]) -> dict[str, Any]:
    mounts = [{"name": "weights", "mountPath": "/weights", "readOnly": True}] if claim else []
    volumes = [{"name": "weights", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    engine = {
        "name": "engine",
        "image": STUB,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--host", "0.0.0.0", "--port", "8080"],
        "volumeMounts": mounts,
    }
    whole = {"automountServiceAccountToken": False, "containers": [engine], "volumes": volumes} | spec
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": whole}
