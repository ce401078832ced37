"""Plants violations of laws: objects of the store, writes and calls, in a simulation in which nothing else happens."""

from collections.abc import Callable
from typing import Any

import msgspec

from flexinfer.api.labels import MODEL_UID_LABEL, RUNNING_FINALIZER, TURN_LABEL
from flexinfer.api.sharedgroup import FREED
from flexinfer.runtime.kubernetes.api import MODELS
from localkube.apiserver.watch_cache import Change
from tests.builders import a_group, a_holder, a_model
from tests.simulation.engine import Engine
from tests.simulation.laws.base import Call, Object
from tests.simulation.loop import run
from tests.simulation.people import Played
from tests.simulation.simulation import Simulation

UID = "00000001-0000-4000-8000-0"
Act = Callable[[Simulation], None]


def judged(*acts: Act) -> list[str]:
    """Return the problems of a simulation in which nothing happens but this."""

    async def main() -> list[str]:
        simulation = Simulation(1)
        for act in acts:
            act(simulation)
        return simulation.checker.problems

    return run(main())


def model(*said: tuple[str, str, str], version: int = 1, **status: Any) -> Object:
    """Return a Model of the store with conditions (type, status, reason)."""
    listed = [{"type": t, "status": s, "reason": r, "observedGeneration": 1} for t, s, r in said]
    return {
        "metadata": {
            "namespace": "default",
            "name": "m",
            "uid": UID,
            "resourceVersion": str(version),
            "generation": 1,
            "finalizers": [RUNNING_FINALIZER],
        },
        "spec": {"backend": "llamacpp", "source": "pvc://x/y.gguf", "serverless": {"idleTimeout": "6s"}},
        "status": {"conditions": listed, **status},
    }


def pod(turn: int, *, gated: bool = False) -> Object:
    """Return an engine Pod of the store."""
    labels = {MODEL_UID_LABEL: UID, TURN_LABEL: str(turn)}
    spec = {"schedulingGates": [{"name": f"flexinfer.ai/turn-{turn}"}]} if gated else {}
    return {"metadata": {"namespace": "default", "name": "m-0", "uid": "p", "labels": labels}, "spec": spec}


def granting(turn: int, step: str) -> Object:
    """Return the object that grants the group `g`; a turn that is over is no longer in it."""
    holders = () if step == FREED else (a_holder("m", uid=UID, turn=turn, step=step),)
    plain: Object = msgspec.to_builtins(a_group(*holders, name="g", turn=turn))
    return plain


def a_lease(reason: str = "", turn: int = 1, **status: Any) -> Object:
    """Return a lease of the store in the group `g`, with the reason of its condition."""
    granted = "True" if reason == "Granted" else "False"
    conditions = [{"type": "Granted", "status": granted, "reason": reason}] if reason else []
    return {
        "metadata": {"namespace": "default", "name": "game", "uid": "lease", "resourceVersion": "1"},
        "spec": {"group": "g"},
        "status": {"turn": turn, "conditions": conditions, **status},
    }


def lending(turn: int, step: str) -> Object:
    """Return the object of the group `g` with a lease as its holder; a turn that is over is no longer in it."""
    entry = a_holder("", lease="game", uid="lease", turn=turn, step=step)
    plain: Object = msgspec.to_builtins(a_group(*(() if step == FREED else (entry,)), name="g", turn=turn))
    return plain


def plays(simulation: Simulation) -> None:
    """Let the process of the lease's first turn run."""
    simulation.people.played["lease", 1] = Played(
        lease="lease", turn=1, devices={"GPU-a": 5000}, pid=5000, started=1
    )


def writes(kind: str, old: Object | None, new: Object | None) -> Act:
    """Return what writes an object at the store."""
    return lambda simulation: simulation.checker.written(Change(1, ("", kind), ("default", "m"), old, new))


def restores(kind: str, old: Object | None, new: Object | None) -> Act:
    """Return what restores the API server from a backup in which one object differs."""
    return lambda simulation: simulation.checker.restored(
        (Change(1, ("", kind), ("default", "m"), old, new),)
    )


def calls(verb: str, body: Any, component: str = "reaper", kind: Any = MODELS) -> Act:
    """Return what lets a component write, accepted by the API server."""
    call = Call(component, f"{component}-local", verb, kind, "default", "m", body)
    return lambda simulation: simulation.checker.called(call, a_model("m"))


def an_engine(**fields: Any) -> Engine:
    """Return an engine of the Model."""
    return Engine(
        pod="p",
        model="default/m",
        holder=(UID, "1"),
        group="default/g",
        node="a",
        address="x",
        devices=("GPU-a",),
        **fields,
    )


def has(engine: Engine) -> Act:
    """Return what gives the machines an engine."""
    return lambda simulation: simulation.machines.engines.update({engine.pod: engine})
