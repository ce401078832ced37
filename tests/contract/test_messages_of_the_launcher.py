"""The catalogue of the launcher: every message of a start, a drain and a stop is rendered, with the worst that may be quoted in it."""

import asyncio
import itertools
from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import BackendStatus, Gpu, Model, Serverless
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import RELEASING
from flexinfer.backends.failures import REMEDIES
from flexinfer.events.workload import PodFacts
from flexinfer.launcher import (
    claim,
    decide,
    drain,
    effects,
    expose,
    loading,
    overdue,
    prompt_cache,
    restore,
    retry,
    start,
    status,
    stop,
    view,
)
from flexinfer.launcher.effects import Protect, Relabel, RestoreService, Stop
from flexinfer.launcher.manifests import service
from flexinfer.launcher.view import context_of, view_of
from flexinfer.runtime.kubernetes.api import ForbiddenError
from flexinfer.state.actions import WriteStatus
from tests.builders import NOW, a_group, a_holder, a_node
from tests.contract.wording import QUOTED, glued, not_rendered
from tests.simulation.loop import run
from tests.unit.launcher import test_claim, test_decide
from tests.unit.launcher.acting import (
    SETTINGS as ACTING,
)
from tests.unit.launcher.acting import (
    a_member,
    a_stuck_pod,
    a_world,
    idle,
    perform,
    ready_message,
    started,
    there,
    with_virtual_time,
)
from tests.unit.launcher.acting import (
    stop as stopped,
)
from tests.unit.launcher.deciding import LOADING, READY, decided, traffic, with_messages, written
from tests.unit.launcher.models import IDLE, SETTINGS, a_probe, a_start, holding, its_pod, observed
from tests.unit.launcher.world import World

MODULES = (
    claim,
    decide,
    drain,
    effects,
    expose,
    loading,
    overdue,
    prompt_cache,
    restore,
    start,
    status,
    stop,
    view,
)
NOT_SHOWN = (
    "back-off (\\\\S+) restarting",  # what a kubelet writes is read by it
    "its Pod does not terminate",  # causes of a deletion, which the log has
    "its Pod failed",
    "kubectl patch pod {meta.name}",
    "Pod {",
    "{meta.key} was written during",  # conflicts: it is decided again
    "ResourceClaim {name} is of",
    "Service {meta.name} cannot be",
    "Service {meta.name} belongs to",
    "prompt caches of {",
    "no answer within",
)
WAITING: dict[str, Any] = {"running": False, "ip": "", "phase": "Pending"}
TERMINATED: dict[str, Any] = {"running": False, "ip": "", "phase": "Failed"}


def said(*parts: Any, after: float = 0.0) -> Iterator[str]:
    """Yield what is written about a Model, some seconds after everything was observed."""
    for action in decided(*parts, after=after):
        if isinstance(action, WriteStatus) or hasattr(action, "write"):
            yield written(action).condition.message


def pods(quoted: str) -> Iterator[dict[str, Any]]:
    """Yield what a Pod may look like whose engine does not answer."""
    for reason in ("ErrImagePull", "ImagePullBackOff", "ContainerCreating", "ProgramNotInstalled", ""):
        yield {"reason": reason, "message": quoted, **WAITING}
    yield {"reason": "ContainerCreating", **WAITING}
    yield {"reason": "Unschedulable", "message": quoted, "node": "", **WAITING}
    yield {"node": "", **WAITING}
    for message in (quoted, "back-off 40s restarting failed container"):
        crash: dict[str, Any] = {"reason": "CrashLoopBackOff", "exit_code": 1, "message": message, **WAITING}
        yield from ({"restarts": 1, "last": quoted, **crash}, {"restarts": 2, "last": "", **crash})
    yield {"restarts": 1, "exit_code": 137, "last": f"OOMKilled: {quoted}"}
    yield {"restarts": 3, "exit_code": 1, "last": "exec format error"}
    yield {"restarts": 1}
    yield {}


def starts(quoted: str) -> Iterator[str]:
    """Yield what is said of Pods in each state, while they start, at the deadline and after it."""
    for ready in (LOADING, READY, ("False", Reason.RESTARTING), ("False", Reason.STARTING)):
        model = a_start(ready=ready, gpu=Gpu())
        for facts in pods(quoted):
            pod = its_pod(model, **facts)
            for detail in (quoted, ""):
                probed = a_probe(model, pod, healthy=False, detail=detail)
                state, memory = observed(model, holding(model, pod), probed)
                stage = loading.stage_of(context_of(model, state, memory, NOW, SETTINGS), pod)
                yield stage.message
                late = with_messages(a_start(ready=("False", stage.reason), gpu=Gpu()), Ready=stage.message)
                yield from said(late, holding(late, pod), probed, after=7200)
                always = msgspec.structs.replace(late.spec, serverless=Serverless(enabled=False))
                yield from said(
                    msgspec.structs.replace(late, spec=always), holding(late, pod), probed, after=7200
                )


def pods_that_ended(quoted: str) -> Iterator[str]:
    """Yield what is said of a Pod that will never run again, and of one that the API server does not accept."""
    for ready in (LOADING, READY):
        model = a_start(ready=ready)
        for facts in ({"exit_code": 1, "message": quoted}, {"reason": "Evicted", "message": quoted}, {}):
            pod = its_pod(model, **(TERMINATED | facts))
            yield from said(model, holding(model, pod))
            for failures, always_on in itertools.product((1, 2, 6), (True, False)):
                cause = conditions.clause(f"Pod failed ({quoted}")
                for helps in ("", *(f"; {text}" for text in REMEDIES.values())):
                    yield retry.after_failure(f"{cause})", failures, always_on=always_on, helps=helps)[1]
    rejected = with_messages(
        a_start(ready=("False", Reason.CREATE_REFUSED)),
        Ready=f"the API server rejected it: {conditions.clause(quoted)}",
    )
    yield from said(rejected, after=SETTINGS.loading_seconds)
    yield from said(a_start(ready=("False", Reason.CREATE_REFUSED), generation=2, ready_generation=1))


def at_rest_and_between() -> Iterator[str]:
    """Yield what is said of a Model without a Pod, and while a Pod is replaced."""
    yield from said(a_start(*IDLE), after=5)
    yield from said(a_start("Accepted", ready=READY))
    yield from said(a_start(ready=READY))
    yield from said(a_start(ready=("False", Reason.BACK_OFF)), after=60)
    device = test_decide.on_a_device("2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z")
    yield from said(device, after=2.0)
    turn = BackendStatus(turn=4, pod_uid="pod-0")
    yield from said(spent_turn(turn), a_group(a_holder(turn=4)))
    for deleting in (True, False):
        model = a_start(ready=READY)
        yield from said(model, holding(model, its_pod(model, deleting=deleting)), a_node(ready="Unknown"))
    model = a_start(ready=LOADING)
    yield from said(model, holding(model, its_pod(model, deleting=True)))


def spent_turn(backend: BackendStatus, *gates: Any) -> Model:
    """Return a member of a group whose turn has had its Pod."""
    return a_member(*gates, backend_status=backend, ready=LOADING)


def healthy() -> Iterator[str]:
    """Yield what is said of an engine that answers, with the current spec and with one before."""
    for model in (
        a_start(ready=LOADING),
        a_start("Accepted", ready=READY, generation=2, ready_generation=1),
        a_start(("Accepted", "False", Reason.INVALID_SPEC), ready=READY, generation=2, ready_generation=1),
    ):
        pod = its_pod(model, generation=1)
        yield from said(model, holding(model, pod), a_probe(model, pod), after=3.25)


def drains() -> Iterator[str]:
    """Yield what is said as a drain begins, for each cause and number of requests."""
    idle_model = a_start(*IDLE, ready=READY)
    for requests in (0, 1, 2):
        yield from said(
            idle_model, holding(idle_model, its_pod(idle_model)), traffic(idle_model, "p", requests)
        )
    for model in causes_to_stop():
        yield from said(model, holding(model, its_pod(model)), a_group(a_holder(turn=4, step=RELEASING)))
        yield view_of(model, [a_group(a_holder(turn=4, step=RELEASING))]).stop_cause
    for facts in ({"turn": 3}, {"node": "b"}, {"template": "another"}):
        model = a_start(ready=READY, generation=2, ready_generation=1)
        yield drain.renewal_cause(view_of(model), its_pod(model, **facts), SETTINGS)
        yield from said(model, holding(model, its_pod(model, **facts)))
    model = spent_turn(BackendStatus(turn=4, pod_uid="pod-1"))
    elsewhere = view_of(model, [a_group(a_holder(turn=4, devices=("GPU-2",)))])
    gated = its_pod(model, turn=4, gates=("flexinfer.ai/turn-4",))
    yield drain.unopened_cause(elsewhere, gated)
    lacks = spent_turn(
        BackendStatus(turn=4, pod_uid="pod-1"),
        *("Accepted", "Placed", ("Cached", "False", Reason.FETCHING), "Wanted", "Granted"),
    )
    yield drain.unopened_cause(view_of(lacks), gated)


def causes_to_stop() -> Iterator[Model]:
    """Yield a Model for each cause for which none of its Pods may run."""
    yield a_start(ready=READY, deletion_timestamp="2026-11-24T12:00:00Z")
    yield a_start(*IDLE, ready=READY)
    yield a_start(
        ("Placed", "False", Reason.NODE_GONE), "Accepted", "Cached", "Wanted", "Granted", ready=READY
    )
    yield spent_turn(BackendStatus(turn=4, pod_uid="pod-1"))


def prompts_saved() -> Iterator[str]:
    """Yield what a stop says of the prompt caches that it saved."""
    for number, tokens in ((1, 1), (2, 900)):
        yield prompt_cache.saved_message(number, tokens)


def with_finalizers(names: list[str], pod: dict[str, Any]) -> None:
    """Give a Pod finalizers."""
    pod["metadata"].update(finalizers=names)


async def stops() -> list[str]:
    """Return what stops say that end, do not end, or do not end beside a failure."""
    texts = []
    for node in ("", "a"):
        for finalizers in ([], ["example.com/hold", "example.com/too"]):
            world, _ = a_world(a_start())
            runtime = with_virtual_time(world)
            await started(world, runtime)
            idle(world)
            a_stuck_pod(world, node=node)
            world.touch("pods", "llama-0", partial(with_finalizers, finalizers))
            await stopped(world, runtime)
            texts.append(ready_message(world))
    world, runtime = a_world(a_start())
    await started(world, runtime)
    idle(world)
    await stopped(world, runtime)
    texts.append(ready_message(world))
    world, runtime = a_world(
        a_start(
            finalizers=(RUNNING_FINALIZER, "example.com/theirs"), deletion_timestamp="2026-11-24T12:00:00Z"
        )
    )
    await stopped(world, runtime)
    texts.append(ready_message(world))
    texts += [await stop_of(ready, draining) for ready in ("Failed", "") for draining in (None, 1.0)]
    return texts


async def stop_of(failed: str, draining: float | None) -> str:
    """Return what a stop says of a Pod that goes, or of one that is gone already."""
    world, runtime = a_world(a_start(*IDLE, ready=("False", Reason.DRAINING)))
    pods_: tuple[PodFacts, ...] = (its_pod(there(world)),) if failed else ()
    action = Stop(
        model=there(world),
        pods=pods_,
        purpose=effects.Purpose.STOP,
        cause="Wanted is False",
        draining_since=draining,
        force=False,
    )
    await perform(runtime, action)
    return ready_message(world)


async def rejected(quoted: str) -> list[str]:
    """Return what is said of objects that the API server does not accept, and of names that are taken."""
    texts = []

    def refuse(call: str) -> Any:
        def between(made: str) -> None:
            if made == call:
                raise ForbiddenError(quoted, 403)

        return between

    for model, call in ((a_start(), "create pods"), (test_claim.to_start(), "create resourceclaims")):
        world, runtime = a_world(model)
        world.between = refuse(call)
        await started(world, runtime)
        texts.append(ready_message(world))
    for kind, name in (("services", "Service"), ("pods", "Pod"), ("resourceclaims", "ResourceClaim")):
        texts.append(str(effects.NameTakenError(a_start(), name, kind)))
    return texts


async def remarks() -> list[str]:
    """Return what Events say of what other clients changed and the launcher changed back."""
    world, runtime = a_world(a_start(ready=READY))
    world.touch("models", "llama", lambda m: m["metadata"].update(finalizers=[]))
    await perform(runtime, Protect(model=there(world)))
    world.put("pods", {"metadata": {"name": "llama-0", "uid": "pod"}})
    await asyncio.sleep(1)
    await perform(runtime, Relabel(model=there(world), pod=PodFacts(name="llama-0", uid="pod")))
    await asyncio.sleep(1)
    body = service(there(world), ACTING)
    await perform(runtime, RestoreService(model=there(world), service=body))
    await asyncio.sleep(1)
    world.touch("services", "llama", lambda s: s["metadata"].update(labels={}))
    world.touch("services", "llama", lambda s: s["spec"].update(externalName="elsewhere"))
    await perform(runtime, RestoreService(model=there(world), service=body))
    await asyncio.sleep(1)
    return events_of(world)


def events_of(world: World) -> list[str]:
    """Return the messages of the Events in a world."""
    return [thing["message"] for (plural, *_), thing in world.things.items() if plural == "events"]


def rendered(quoted: str) -> list[str]:
    """Return every message."""

    async def performed() -> list[str]:
        return [*await stops(), *await rejected(quoted), *await remarks()]

    return [
        *starts(quoted),
        *pods_that_ended(quoted),
        *at_rest_and_between(),
        *healthy(),
        *drains(),
        *prompts_saved(),
        *run(performed()),
    ]


@pytest.mark.parametrize("quoted", QUOTED)
def test_every_message_of_the_launcher_is_whole(quoted: str) -> None:
    """Of starts, drains and stops, whatever the node, the registry, the engine or the API server says."""
    assert {wrong for message in rendered(quoted) for wrong in glued(message)} == set()


def test_no_message_of_the_launcher_is_left_out() -> None:
    """Each text in its modules is in one that was rendered."""
    assert not_rendered(MODULES, rendered(QUOTED[0]), NOT_SHOWN) == []
