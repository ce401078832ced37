"""On a real node (`make bench-node`, root): wakes beside bare Pods, and what 100 sleeping Models cost.

The engine is the stub in a container. Wake overhead = (engine's process started - request) + (first byte - engine ready), through the door's Service.
Between wakes the same stub is started as a bare Pod: POSTed, its address taken from a watch, then asked every 5 ms; without a claim (the floor that the
peers were measured beside: 252 ms) and with the Model's own claim mounted: any volume costs 300 ms, since kubelet looks whether a Pod's volumes are
mounted at once and then every 300 ms (`podAttachAndMountRetryInterval` of its volume manager). Peers measured elsewhere on such a node: KubeAI 1,883 ms,
LLMKube 9,577 ms.
"""

import asyncio
import contextlib
import json
import shutil
import statistics
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks import load
from benchmarks.wake import spawn_background
from flexinfer.runtime.kubernetes.api import PODS, NotFoundError
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from tests.node import images
from tests.node.__main__ import report
from tests.node.cluster import running_cluster
from tests.node.layout import REGISTRY, layout
from tests.node.product import IMAGES, SYSTEM, TAG, Product
from tests.node.waiting import until

WAKES, PODS_EVERY, SLEEPERS = 100, 5, 100
PEERS = ("KubeAI", "LLMKube")
GOAL_MEDIAN, GOAL_MAX, GOAL_FIRST_BYTE = 0.350, 0.600, 0.025
GOAL_MILLICORES = 5.0
STUB = f"{REGISTRY}/flexinfer/stub:bench"
_REST_SECONDS, _WATCHED_SECONDS, _CALM_SECONDS, _PATIENCE_SECONDS = 1.0, 60.0, 20.0, 1200.0
_DOCKERFILE = f"""FROM {REGISTRY}/flexinfer/services:{TAG}
COPY stub_engine.py /stub_engine.py
ENTRYPOINT ["python", "-S", "-E", "/stub_engine.py"]
"""


class Start(msgspec.Struct, frozen=True):
    """One start, in seconds: until the engine's process ran, and from its being ready to the first byte of an answer."""

    spawned: float
    answered: float

    @property
    def overhead(self) -> float:
        """All that was not the engine's own."""
        return self.spawned + self.answered


def start_of(asked: float, first_byte: float, answer: bytes) -> Start:
    """Return what a stub's answer says of its start; all times are of the machine's one monotonic clock."""
    told = msgspec.json.decode(answer)
    return Start(told["started"] - asked, first_byte - told["ready"])


def wake(door: str, model: str) -> Start | None:
    """Ask a sleeping Model; None where the answer was not the engine's."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
    request = urllib.request.Request(
        f"{door}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    asked = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return start_of(asked, time.monotonic(), answer.read())
    except urllib.error.HTTPError as error:
        print(f"  a request failed: HTTP {error.code} {error.read().decode()}", flush=True)
        return None


async def bare_pod(cluster: KubernetesClient, claim: str) -> Start:
    """Start the stub by hand, and ask it every 5 ms."""
    version = (await cluster.list(PODS, "default")).version
    asked = time.monotonic()
    await cluster.create(PODS, "default", _pod(claim))
    address, answer = await _address(cluster, version), b""
    while not answer:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/health", timeout=1) as told:
                first_byte = time.monotonic()
                answer = told.read()
        except OSError:
            time.sleep(0.005)
    await cluster.delete(PODS, "default", "bare", grace=0)
    with contextlib.suppress(NotFoundError):
        while await cluster.get(PODS, "default", "bare"):
            await asyncio.sleep(0.05)
    return start_of(asked, first_byte, answer)


async def _address(cluster: KubernetesClient, version: str) -> str:
    """Return the bare Pod's address once a watch tells it."""
    async for change in cluster.watch(PODS, version):
        pod = change.object
        if pod is not None and pod.metadata.name == "bare" and pod.status.pod_ip:
            return pod.status.pod_ip
    raise SystemExit("the watch of the bare Pod ended")


def _pod(claim: str) -> dict[str, Any]:
    mounts = [{"name": "weights", "mountPath": "/weights", "readOnly": True}] if claim else []
    volumes = [{"name": "weights", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    engine = {
        "name": "engine",
        "image": STUB,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--host", "0.0.0.0", "--port", "8080"],
        "volumeMounts": mounts,
    }
    spec = {"automountServiceAccountToken": False, "containers": [engine], "volumes": volumes}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": spec}


async def wakes(product: Product, count: int) -> None:
    """Wake a Model again and again, start bare Pods between, and print both."""
    product.model("sleeper", serverless={"idleTimeout": "1s"})
    product.ready("sleeper")
    door, loads = product.proxy_url, []
    found: list[Start | None] = []
    bare: dict[str, list[Start]] = {"": [], "models": []}
    async with connected(str(product.cluster.layout.kubeconfig())) as cluster:
        for number in range(count):
            product.until_phase("sleeper", "Idle", 60)
            loads.append(load.rest(_REST_SECONDS))
            found.append(wake(door, "sleeper"))
            if number % PODS_EVERY == 0:
                product.until_phase("sleeper", "Idle", 60)
                for claim, starts in bare.items():
                    starts.append(await bare_pod(cluster, claim))
    product.delete("sleeper")
    print(load.told(loads))
    print("seconds, least / median / most")
    _tell("a bare Pod", bare[""])
    _tell("a bare Pod with the claim", bare["models"])
    _compare(found, statistics.median(start.overhead for start in bare["models"]))


def _compare(found: Sequence[Start | None], floor: float) -> None:
    """Print the wakes beside the bare Pod's median, the peers and the goals."""
    answered = [start for start in found if start is not None]
    _tell(f"{len(answered)} wakes", answered)
    overheads = [start.overhead for start in answered]
    median, most = statistics.median(overheads), max(overheads)
    print(f"  ratio to the bare Pod with the claim {median / floor:.2f}; {spawn_background(median, PEERS)}")
    _goal(
        f"overhead: median {GOAL_MEDIAN:.3f}, most {GOAL_MAX:.3f}", median <= GOAL_MEDIAN and most <= GOAL_MAX
    )
    print(f"  over {GOAL_MAX:.3f}: {sum(overhead > GOAL_MAX for overhead in overheads)} of {len(overheads)}")
    first = statistics.median(start.answered for start in answered)
    _goal(f"engine ready -> first byte: median {GOAL_FIRST_BYTE:.3f}", first <= GOAL_FIRST_BYTE)
    print(f"  failed first requests: {len(found) - len(answered)} of {len(found)}")
    _goal("none failed", len(found) == len(answered))


def _goal(what: str, met: bool) -> None:  # noqa: FBT001 -- the verdict is what is told
    print(f"  goal: {what} ({'met' if met else 'missed'})", flush=True)


def _tell(what: str, starts: Sequence[Start]) -> None:
    columns = {
        "overhead": [start.overhead for start in starts],
        "asked -> process": [start.spawned for start in starts],
        "ready -> first byte": [start.answered for start in starts],
    }
    told = "; ".join(
        f"{name} {min(each):.3f} / {statistics.median(each):.3f} / {max(each):.3f}"
        for name, each in columns.items()
    )
    print(f"{what}: {told}", flush=True)


def sleepers(product: Product, count: int) -> None:
    """Print what sleeping Models cost: the processor, the API server and the eye."""
    names = [f"sleeper-{number:03}" for number in range(count)]
    idle = _measured(product)
    for name in names:
        product.model(name, serverless={"idleTimeout": "1s"})
    began = time.monotonic()
    until(lambda: _asleep(product) == count, _PATIENCE_SECONDS, f"{count} Models sleep")
    print(f"{count} Models applied, started once and asleep after {time.monotonic() - began:.0f} s")
    time.sleep(_CALM_SECONDS)  # what was written last is reported on
    asleep = _measured(product)
    for what, (cores, written) in (("no Model", idle), (f"{count} asleep", asleep)):
        total = sum(cores.values()) * 1000
        each = ", ".join(
            f"{name} {share * 1000:.1f}" for name, share in sorted(cores.items(), key=lambda one: -one[1])
        )
        others = ", ".join(f"{name} {times}" for name, times in written.items() if name != "leases") or "none"
        print(f"{what}: {total:.1f} milli-cores ({each})")
        print(f"  API writes a minute: {written['leases']} lease renewals, others: {others}")
    cost = (sum(asleep[0].values()) - sum(idle[0].values())) * 1000
    print(f"  {cost / count:+.3f} milli-cores a Model")
    _goal(
        f"{GOAL_MILLICORES:.0f} milli-cores of everything", sum(asleep[0].values()) * 1000 <= GOAL_MILLICORES
    )
    _goal("lease renewals only", set(asleep[1]) <= {"leases"})
    owned = _owned(product)
    print(f"  objects owned: {dict(owned)}")
    _goal("the Service alone", owned == {"Service": count})


def _asleep(product: Product) -> int:
    """Return how many Models have been started and stopped again; one that still queues for that is not asleep."""
    items = product.cluster.object("mdl")["items"]
    reasons = ({c["reason"] for c in item.get("status", {}).get("conditions", ())} for item in items)
    return sum(told >= {"Idle", "Stopped"} for told in reasons)


def _measured(product: Product) -> tuple[dict[str, float], Counter[str]]:
    """Watch for a minute: cores by component, and writes by resource."""
    log = product.cluster.layout.audit
    pods = {
        pod["metadata"]["uid"]: pod["metadata"]["labels"]["app.kubernetes.io/component"]
        for pod in product.cluster.object("pods", "-n", SYSTEM)["items"]
        if pod["status"]["phase"] == "Running"
    }
    began, before, read = time.monotonic(), _spent(pods), log.stat().st_size
    time.sleep(_WATCHED_SECONDS)
    after, seconds = _spent(pods), time.monotonic() - began
    with log.open("rb") as file:
        file.seek(read)
        entries = [msgspec.json.decode(line) for line in file.read().splitlines()]
    written = Counter(str(entry["objectRef"]["resource"]) for entry in entries if "objectRef" in entry)
    return {name: (spent - before[name]) / seconds for name, spent in after.items()}, written


def _spent(pods: dict[str, str]) -> dict[str, float]:
    """Return the processor's seconds that Pods have used, by component: the containers are processes of this machine."""
    spent = dict.fromkeys(pods.values(), 0.0)
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with contextlib.suppress(OSError):
                groups = (process / "cgroup").read_text()
                component = next((name for uid, name in pods.items() if uid in groups), "")
                if component:
                    tasks = (process / "task").glob("*/schedstat")
                    spent[component] += sum(int(task.read_text().split()[0]) for task in tasks) / 1e9
    return spent


def _owned(product: Product) -> Counter[str]:
    """Return how many objects Models own, by kind; of all kinds that can be listed, but Events."""
    kinds = product.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    listed = product.cluster.object(",".join(kind for kind in kinds if not kind.startswith("events")))
    return Counter(
        item["kind"]
        for item in listed["items"]
        if any(owner["kind"] == "Model" for owner in item["metadata"].get("ownerReferences", ()))
    )


def main() -> None:
    """Print the row."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else WAKES
    sleeping = int(sys.argv[2]) if len(sys.argv) > 2 else SLEEPERS
    with running_cluster(layout(), report) as cluster, tempfile.TemporaryDirectory() as folder:
        images.push_product(IMAGES, TAG)
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
            asyncio.run(wakes(product, count))
            if sleeping:
                sleepers(product, sleeping)
        finally:
            product.remove_models()
            product.apply()


if __name__ == "__main__":
    main()
