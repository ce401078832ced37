"""On a real node (`make bench-node`, root): cold starts and bare Pods, and the cost of 100 idle Models.

The engine is the stub in a container. Overhead = (engine process started - request) + (first byte - engine
ready), through the Service of the proxy. Between cold starts the same stub is started as a bare Pod: POSTed,
its address read from a watch, then polled every 5 ms; without a PVC (the baseline of the peers: 252 ms) and
with the PVC of the Model: any volume costs 300 ms, since kubelet checks whether the volumes of a Pod are
mounted at once and then every 300 ms (`podAttachAndMountRetryInterval` of its volume manager). Peers measured
elsewhere on such a node: KubeAI 1,883 ms, LLMKube 9,577 ms.
"""

import asyncio
import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from benchmarks import load
from benchmarks.cold_start import compare_with_peers
from benchmarks.node_stub import Answer, Proxy, bare_pod, stubbed
from flexinfer.runtime.kubernetes.client import connected
from tests.node.product import SYSTEM, Product
from tests.node.waiting import until

COLD_STARTS, PODS_EVERY, IDLE_MODELS = 100, 5, 100
PEERS = ("KubeAI", "LLMKube")
GOAL_MEDIAN, GOAL_MAX, GOAL_FIRST_BYTE = 0.350, 0.600, 0.025
GOAL_MILLICORES = 5.0
_REST_SECONDS, _WATCHED_SECONDS, _SETTLE_SECONDS, _TIMEOUT_SECONDS = 1.0, 60.0, 20.0, 1200.0


async def cold_starts(product: Product, count: int) -> None:
    """Start a Model repeatedly by a request, with bare Pods in between, and print both."""
    product.model("idle", serverless={"idleTimeout": "1s"})
    product.ready("idle")
    proxy, loads = Proxy(product), []
    requests: list[Answer | None] = []
    bare: dict[str, list[Answer]] = {"": [], "models": []}
    async with connected(str(product.cluster.layout.kubeconfig())) as cluster:
        for number in range(count):
            product.until("idle", "Ready", "Stopped", 60)
            loads.append(load.rest(_REST_SECONDS))
            requests.append(proxy.ask("idle"))
            if number % PODS_EVERY == 0:
                product.until("idle", "Ready", "Stopped", 60)
                for claim, starts in bare.items():
                    starts.append((await bare_pod(cluster, claim)).start)
    product.delete("idle")
    print(load.summary(loads))
    print("seconds, minimum / median / maximum")
    _print("a bare Pod", bare[""])
    _print("a bare Pod with the PVC", bare["models"])
    _compare(requests, statistics.median(start.overhead for start in bare["models"]))


def _compare(requests: Sequence[Answer | None], floor: float) -> None:
    """Print the cold starts compared with the median of the bare Pod, the peers and the goals."""
    answered = [start for start in requests if start is not None]
    if not answered:
        raise SystemExit("no request was answered")
    _print(f"{len(answered)} cold starts", answered)
    overheads = [start.overhead for start in answered]
    median, maximum = statistics.median(overheads), max(overheads)
    print(f"  ratio to the bare Pod with the PVC {median / floor:.2f}; {compare_with_peers(median, PEERS)}")
    _print_goal(
        f"overhead: median {GOAL_MEDIAN:.3f}, maximum {GOAL_MAX:.3f}",
        median <= GOAL_MEDIAN and maximum <= GOAL_MAX,
    )
    print(f"  over {GOAL_MAX:.3f}: {sum(overhead > GOAL_MAX for overhead in overheads)} of {len(overheads)}")
    first = statistics.median(start.answered for start in answered)
    _print_goal(f"engine ready -> first byte: median {GOAL_FIRST_BYTE:.3f}", first <= GOAL_FIRST_BYTE)
    print(f"  failed first requests: {len(requests) - len(answered)} of {len(requests)}")
    _print_goal("none failed", len(requests) == len(answered))


def _print_goal(what: str, met: bool) -> None:  # noqa: FBT001 -- the only thing to print
    print(f"  goal: {what} ({'met' if met else 'missed'})", flush=True)


def _print(what: str, starts: Sequence[Answer]) -> None:
    columns = {
        "overhead": [start.overhead for start in starts],
        "request -> process": [start.spawned for start in starts],
        "ready -> first byte": [start.answered for start in starts],
    }
    text = "; ".join(
        f"{name} {min(each):.3f} / {statistics.median(each):.3f} / {max(each):.3f}"
        for name, each in columns.items()
    )
    print(f"{what}: {text}", flush=True)


def idle_models(product: Product, count: int) -> None:
    """Print the cost of idle Models: CPU time, API writes and objects."""
    names = [f"idle-{number:03}" for number in range(count)]
    baseline = _measured(product)
    for name in names:
        product.model(name, serverless={"idleTimeout": "1s"})
    began = time.monotonic()
    until(lambda: _scaled_to_zero(product) == count, _TIMEOUT_SECONDS, f"{count} Models are idle")
    print(f"{count} Models applied, started once and idle after {time.monotonic() - began:.0f} s")
    time.sleep(_SETTLE_SECONDS)  # the effects of the last writes
    idle = _measured(product)
    for what, (cores, written) in (("no Model", baseline), (f"{count} idle Models", idle)):
        total = sum(cores.values()) * 1000
        each = ", ".join(
            f"{name} {share * 1000:.1f}" for name, share in sorted(cores.items(), key=lambda one: -one[1])
        )
        others = ", ".join(f"{name} {times}" for name, times in written.items() if name != "leases") or "none"
        print(f"{what}: {total:.1f} milli-cores ({each})")
        print(f"  API writes per minute: {written['leases']} lease renewals, others: {others}")
    cost = (sum(idle[0].values()) - sum(baseline[0].values())) * 1000
    print(f"  {cost / count:+.3f} milli-cores per Model")
    _print_goal(
        f"{GOAL_MILLICORES:.0f} milli-cores in total", sum(idle[0].values()) * 1000 <= GOAL_MILLICORES
    )
    _print_goal("lease renewals only", set(idle[1]) <= {"leases"})
    owned = _owned(product)
    print(f"  objects owned: {dict(owned)}")
    _print_goal("only the Service", owned == {"Service": count})


def _scaled_to_zero(product: Product) -> int:
    """Return how many Models have been started and stopped again.

    One that is still queued for its initial start is not counted.
    """
    items = product.cluster.object("mdl")["items"]
    reasons = ({c["reason"] for c in item.get("status", {}).get("conditions", ())} for item in items)
    return sum(current >= {"Idle", "Stopped"} for current in reasons)


def _measured(product: Product) -> tuple[dict[str, float], Counter[str]]:
    """Measure for a minute: cores by component, and API writes by resource."""
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
    """Return the CPU seconds of the Pods by component; their containers are processes of this machine."""
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
    """Return how many objects Models own, by kind: all listable kinds except Events."""
    kinds = product.kubectl("api-resources", "--namespaced", "--verbs=list", "-o", "name").split()
    listed = product.cluster.object(",".join(kind for kind in kinds if not kind.startswith("events")))
    return Counter(
        item["kind"]
        for item in listed["items"]
        if any(owner["kind"] == "Model" for owner in item["metadata"].get("ownerReferences", ()))
    )


def main() -> None:
    """Print the results."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COLD_STARTS
    idle_count = int(sys.argv[2]) if len(sys.argv) > 2 else IDLE_MODELS
    with stubbed() as product:
        asyncio.run(cold_starts(product, count))
        if idle_count:
            idle_models(product, idle_count)


if __name__ == "__main__":
    main()
