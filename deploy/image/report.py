"""Print the sizes of the images, layer by layer, and how fast services start in them: `python deploy/image/report.py`.

Sizes are of layers as a registry keeps them (compressed) and as a node unpacks them. Starts are measured on a cluster that runs the product and
whose containers are processes of this machine (`make node-up`): from the start of a container's process to the first success of its /readyz.
Without one, only sizes are printed.
"""

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import oci
from build import OWN_BASE, REPOSITORY, TARGETS, base, engine

SYSTEM, HEALTH = "flexinfer-system", 8081
SERVICES = ("watcher", "agent", "placer", "prefetcher", "launcher", "reaper", "arbiter", "proxy")
ON_EVERY_NODE = ("agent",)
_SECONDS = 60.0
_MEGABYTE = 1_000_000


def weights(program: str, image: str) -> list[tuple[int, int]]:
    """Return the sizes of an image's layers, lowest first: compressed and unpacked bytes."""
    with oci.layers(program, image) as layers:
        return [_weight(layer) for layer in layers]


def _weight(layer: Path) -> tuple[int, int]:
    kept, unpacked = layer.read_bytes(), oci.unpacked(layer)
    return len(gzip.compress(kept, 6) if kept == unpacked else kept), len(unpacked)


def sizes(program: str, registry: str, version: str) -> Iterator[str]:
    """Yield a line for each image; the layers above the base are ours."""
    below = len(weights(program, base(program)))
    yield f"{'image':<14} {'over the base':>14} {'compressed':>11}   layers over the base, MB unpacked"
    for target in TARGETS:
        layers = weights(program, f"{registry}/{REPOSITORY}/{target}:{version}")
        ours = layers if target == "nats" else layers[below:]
        packed, unpacked = (sum(layer[side] for layer in ours) / _MEGABYTE for side in (0, 1))
        shown = " ".join(f"{layer[1] / _MEGABYTE:.1f}" for layer in ours)
        yield f"{target:<14} {unpacked:>11.1f} MB {packed:>8.1f} MB   {shown}"


# --- starts


def kubectl(*words: str) -> Any:
    """Return kubectl's JSON output."""
    program = str(Path(sys.executable).with_name("kubectl"))
    done = subprocess.run([program, *words, "-o", "json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def starts() -> Iterator[str]:
    """Replace each service's Pod, and yield how long the new one took."""
    for service in SERVICES:
        yield f"{service:<14} {start_of(service):>6.2f} s"


def start_of(service: str) -> float:
    """Return the seconds from the start of a new Pod's process to its first successful /readyz."""
    previous = {pod["metadata"]["uid"] for pod in _pods(service)}
    kind = "daemonset" if service in ON_EVERY_NODE else "deployment"
    words = ("rollout", "restart", f"{kind}/flexinfer-{service}", "-n", SYSTEM)
    program = str(Path(sys.executable).with_name("kubectl"))
    subprocess.run([program, *words], capture_output=True, check=True)
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        for pod in _pods(service):
            address = pod["status"].get("podIP")
            if pod["metadata"]["uid"] not in previous and address and _ready(address):
                return _uptime() - _began(pod["metadata"]["uid"])
    raise SystemExit(f"report: {service} was not ready within {_SECONDS:.0f} s")


def _pods(service: str) -> list[Mapping[str, Any]]:
    label = f"app.kubernetes.io/component={service}"
    pods: list[Mapping[str, Any]] = kubectl("get", "pods", "-n", SYSTEM, "-l", label)["items"]
    return pods


def _ready(address: str) -> bool:
    """Poll one Pod until it is ready; False when it does not become ready."""
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://{address}:{HEALTH}/readyz", timeout=1):
                return True
        except OSError:
            time.sleep(0.01)  # between two polls
    return False


def _began(uid: str) -> float:
    """Return when the first process of a Pod's service started, in seconds since boot."""
    ticks = os.sysconf("SC_CLK_TCK")
    ours = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and _is_service(folder, uid):
                ours.append(int((folder / "stat").read_text().rpartition(")")[2].split()[19]) / ticks)
        except OSError:
            continue
    if not ours:
        raise SystemExit("report: the containers are not processes of this machine")
    return min(ours)


def _is_service(process: Path, uid: str) -> bool:
    """Return whether a process belongs to a Pod and runs a service."""
    return uid in (process / "cgroup").read_text() and b"flexinfer." in (process / "cmdline").read_bytes()


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def main() -> None:
    """Print the report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", default=os.environ.get("ENGINE", ""), choices=("", "docker", "buildah"))
    parser.add_argument("--registry", default="localhost")
    parser.add_argument("--version", default="latest")
    given = parser.parse_args()
    program = engine(given.engine)
    print(f"base: {'our own Debian' if base(program) == OWN_BASE else base(program)}")
    try:
        for line in sizes(program, given.registry, given.version):
            print(line, flush=True)
    except oci.MissingImageError as error:
        raise SystemExit(f"report: {error}") from error
    probe = subprocess.run(
        [str(Path(sys.executable).with_name("kubectl")), "get", "deployments", "-n", SYSTEM, "-o", "name"],
        capture_output=True,
        text=True,
        check=False,
    )
    if not probe.stdout.strip():
        print("starts: skipped: no cluster runs the product (`make node-up`, then docs/how-to/develop.md)")
        return
    print("start of the process -> ready, in its container")
    for line in starts():
        print(line, flush=True)


if __name__ == "__main__":
    main()
