"""Pods: deleted by hand, evicted, refused by quota, or kept by a finalizer that is not ours."""

import asyncio
import random

from flexinfer.api.labels import COMPONENT_LABEL
from localkube.apiserver.errors import ApiError
from localkube.apiserver.requests import DeleteOptions, Options, Patch
from localkube.apiserver.resources import Object
from tests.simulation.faults.base import Fault
from tests.simulation.simulation import Simulation

FOREIGN = "example.com/keep"


def _engine_pod(simulation: Simulation, chance: random.Random) -> Object | None:
    """Return one of the engine Pods."""
    pods = [
        pod
        for _, pod in sorted(simulation.checker.pods.items())
        if COMPONENT_LABEL in pod["metadata"].get("labels", {})
    ]
    return chance.choice(pods) if pods else None


def delete(simulation: Simulation, chance: random.Random) -> None:
    """Delete a Pod by hand."""
    pod = _engine_pod(simulation, chance)
    if pod is not None:
        meta = pod["metadata"]
        simulation.record(f"delete Pod {meta['name']} by hand")
        try:
            simulation.store.delete(
                simulation.machines.pods, meta["namespace"], meta["name"], DeleteOptions()
            )
        except ApiError:
            return


def evict(simulation: Simulation, chance: random.Random) -> None:
    """Evict a Pod: its node ends the engine and says that it has failed."""
    pod = _engine_pod(simulation, chance)
    if pod is None or pod["metadata"].get("deletionTimestamp") or not pod["spec"].get("nodeName"):
        return
    kubelet = simulation.machines.kubelets[pod["spec"]["nodeName"]]
    engine = simulation.machines.engines.get(pod["metadata"]["uid"])
    if engine is not None and not engine.ended and not engine.stopping and not kubelet.silent:
        simulation.record(f"evict Pod {pod['metadata']['name']}")
        kubelet.end(engine)
        kubelet.fail(pod, "Evicted")


def keep(simulation: Simulation, chance: random.Random) -> None:
    """Put a finalizer that is not ours on a Pod, for some seconds."""
    pod = _engine_pod(simulation, chance)
    if pod is not None and _finalize(simulation, pod, [FOREIGN]):
        simulation.record(f"a foreign finalizer on Pod {pod['metadata']['name']}")
        seconds = chance.choice([5.0, 20.0])
        asyncio.get_running_loop().call_later(seconds, _finalize, simulation, pod, [])


def _finalize(simulation: Simulation, pod: Object, finalizers: list[str]) -> bool:
    meta, patch = pod["metadata"], Patch("merge", {"metadata": {"finalizers": finalizers or None}})
    key = (meta["namespace"], meta["name"])
    current = simulation.checker.pods.get(key)
    if current is None or current["metadata"]["uid"] != meta["uid"]:
        return False
    try:
        simulation.store.patch(simulation.machines.pods, *key, patch, Options(manager="kubectl"))
    except ApiError:
        return False
    return True


def release(simulation: Simulation) -> None:
    """Remove the finalizer that is not ours from every Pod."""
    for _, pod in sorted(simulation.checker.pods.items()):
        if FOREIGN in pod["metadata"].get("finalizers", ()):
            _finalize(simulation, pod, [])


def refuse(simulation: Simulation, chance: random.Random) -> None:
    """Let quota or Pod security refuse every Pod for some seconds."""
    simulation.record("Pods are refused")
    simulation.api.broken_kinds = frozenset({"Pod"})
    seconds = chance.choice([3.0, 10.0])
    asyncio.get_running_loop().call_later(seconds, _allow, simulation)


def _allow(simulation: Simulation) -> None:
    simulation.api.broken_kinds = frozenset()


FAULTS = (
    Fault("delete a Pod", 0.6, delete),
    Fault("evict a Pod", 0.4, evict),
    Fault("a foreign finalizer", 0.2, keep),
    Fault("Pods are refused", 0.2, refuse),
)
