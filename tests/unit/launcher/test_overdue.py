"""Stops that do not end: what is said of them, and how seldom the API server is asked."""

import asyncio
from typing import Any

import pytest

from flexinfer.api.labels import COMPONENT_LABEL
from flexinfer.api.reasons import Reason
from flexinfer.launcher.effects import Purpose, Stop
from flexinfer.launcher.manifests import STOP_SECONDS
from flexinfer.launcher.memory import Memory
from flexinfer.launcher.pods_gone import PodsGone
from flexinfer.state.actions import RequeueAt
from tests.builders import NOW, a_node
from tests.runtimes import a_runtime
from tests.simulation.loop import run
from tests.unit.launcher.acting import (
    SETTINGS,
    a_stuck_pod,
    a_world,
    idle,
    observed,
    perform,
    ready_message,
    ready_of,
    started,
    stop,
    with_virtual_time,
)
from tests.unit.launcher.deciding import LOADING, READY, decide, decided, message, outcome
from tests.unit.launcher.models import a_start, holding, its_pod

RESTARTING = ("False", Reason.RESTARTING)


@pytest.mark.parametrize("deleting", [False, True])
@pytest.mark.parametrize("ready", [READY, LOADING, RESTARTING])
def test_a_node_that_is_not_ready_precedes_a_pod_that_terminates(
    *, ready: tuple[str, str], deleting: bool
) -> None:
    """Kubernetes deletes the Pods of a silent node itself after five minutes; they do not end there."""
    model = a_start(ready=ready)
    pod = its_pod(model, deleting=deleting)
    [action] = decided(model, holding(model, pod), a_node(ready="Unknown"))
    assert outcome(action) == ("Unknown", Reason.NODE_UNREACHABLE)
    state = "Pod llama-0 cannot be deleted" if deleting else "engine state unknown"
    assert message(action) == (
        f"node a is not ready; {state}, no requests are routed to it; bring the node back, or give it up: "
        "kubectl delete node a, or if it is switched off kubectl taint node a node.kubernetes.io/out-of-service=:NoExecute"
    )


@pytest.mark.parametrize("failed", [Reason.BACK_OFF, Reason.LOADING_TIMEOUT])
def test_a_failure_stays_reported_on_a_node_that_is_not_ready(failed: str) -> None:
    """Its back-off must not be lost: its Pod is deleted."""
    model = a_start(ready=("False", failed))
    [action] = decided(model, holding(model, its_pod(model)), a_node(ready="Unknown"))
    assert isinstance(action, Stop)


def test_a_pod_that_another_client_deleted_and_that_does_not_go_is_named() -> None:
    """Nothing more is deleted; what holds it is read and said."""
    model = a_start(ready=RESTARTING)
    parts = (model, holding(model, its_pod(model, deleting=True)))
    assert decided(*parts) == [RequeueAt(NOW + STOP_SECONDS)]
    [action] = decided(*parts, after=STOP_SECONDS)
    assert isinstance(action, Stop)
    assert action.purpose is Purpose.AWAIT


async def test_what_holds_a_pod_that_another_client_deleted_is_said() -> None:
    """As of a stop of the launcher's own."""
    world, _ = a_world(a_start(ready=RESTARTING))
    runtime = with_virtual_time(world)
    await started(world, runtime)
    a_stuck_pod(world, node="a")
    world.touch("pods", "llama-0", lambda p: p["metadata"].update(deletionTimestamp="2026-11-24T12:00:00Z"))
    world.touch("pods", "llama-0", lambda p: p["spec"].update(schedulingGates=[]))
    await stop(world, runtime)
    assert ready_of(world)[:2] == ("False", Reason.STOPPING)
    assert "with finalizers example.com/hold" in ready_message(world)
    assert not [call for call in world.calls if call == "delete pods"]
    assert decide(observed(world), Memory(), 2e6, settings=SETTINGS) is not None


def test_a_stop_that_does_not_end_polls_at_most_every_ten_seconds() -> None:
    """Whatever else happens: its LIST is repeated by the loop, with the reads before it."""

    async def main() -> tuple[float, int]:
        world, _ = a_world(a_start())
        runtime = a_runtime("launcher", cluster=world)
        await started(world, runtime)
        idle(world)
        a_stuck_pod(world)
        await stop(world, runtime)
        assert ready_of(world)[1] == Reason.STOPPING
        began, world.calls[:] = runtime.clock(), []
        for _ in range(6):
            await stop(world, runtime)
        return runtime.clock() - began, world.calls.count("list pods")

    seconds, lists = run(main())
    assert lists == 6
    assert seconds >= lists * 10


def test_a_stop_of_a_whole_grace_period_costs_few_lists() -> None:
    """It was 120 for 30 s."""

    async def main() -> int:
        world, _ = a_world(a_start())
        runtime = a_runtime("launcher", cluster=world)
        await started(world, runtime)
        idle(world)
        a_stuck_pod(world)
        asyncio.get_running_loop().call_later(30, world.end_pods)
        await stop(world, runtime)
        assert ready_of(world)[1] == Reason.STOPPED
        return world.calls.count("list pods")

    assert run(main()) <= 24


def test_a_pod_that_is_observed_to_be_gone_ends_the_stop_at_once() -> None:
    """The watch tells; the LIST proves."""

    async def main() -> float:
        world, _ = a_world(a_start())
        runtime, gone, loop = a_runtime("launcher", cluster=world), PodsGone(), asyncio.get_running_loop()
        await started(world, runtime)
        idle(world)
        a_stuck_pod(world)
        gone.observe(observed(world), Memory())

        def goes() -> None:
            world.end_pods()
            gone.observe(observed(world), Memory())

        loop.call_later(20, goes)
        [action] = [
            a for a in decide(observed(world), Memory(), 1e6, settings=SETTINGS) if isinstance(a, Stop)
        ]
        began = loop.time()
        await perform(runtime, action, gone)
        assert ready_of(world)[1] == Reason.STOPPED
        return loop.time() - began

    assert 20 <= run(main()) < 20.1


@pytest.mark.parametrize("edit", ["without its component", "with another one"])
async def test_stopped_is_not_said_of_a_pod_whose_labels_were_edited(edit: str) -> None:
    """The LIST selects by the Model's uid alone."""
    world, _ = a_world(a_start())
    runtime = with_virtual_time(world)
    await started(world, runtime)
    idle(world)
    a_stuck_pod(world)

    def edited(pod: dict[str, Any]) -> None:
        labels = pod["metadata"]["labels"]
        labels.pop(COMPONENT_LABEL) if edit.startswith("without") else labels.update({COMPONENT_LABEL: "x"})

    world.touch("pods", "llama-0", edited)
    await stop(world, runtime)
    assert ready_of(world)[1] == Reason.STOPPING


async def test_a_pod_of_a_job_of_the_model_holds_no_stop() -> None:
    """A check or a download has its uid as well, and no engine."""
    world, runtime = a_world(a_start())
    await started(world, runtime)
    labels = world.things["pods", "default", "llama-0"]["metadata"]["labels"]
    owners = [{"kind": "Job", "name": "llama-check", "uid": "j", "controller": True}]
    world.put(
        "pods", {"metadata": {"name": "check", "labels": labels, "ownerReferences": owners}, "spec": {}}
    )
    idle(world)
    await stop(world, runtime)
    assert ready_of(world)[1] == Reason.STOPPED
