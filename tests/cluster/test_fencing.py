"""A paused leader that resumes changes nothing: the API server refuses its writes in flight; it sends no other.

The leader runs behind a relay that holds its requests at named steps of a start, a stop and a grant (DESIGN
6, steps 5 and 6), one Model for each step. Then it is paused (SIGSTOP), its Lease expires, and a second
replica takes over and writes; at last the held requests are forwarded and the first replica resumes
(SIGCONT). The scenario of launcher and arbiter runs once each; every test checks one step of it.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Unpack

import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.api.sharedgroup import GRANTED, RELEASING, STOPPED, SharedGroup, SharedGroupStatus
from flexinfer.local import instance as instances
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from tests.cluster.owners import Owners
from tests.cluster.relay import Call, HeldRequest, Others, Relay, relay
from tests.cluster.replicas import Replica, Replicas, replicas
from tests.instance import Running
from tests.patience import patient

LEASE_READS = 3
"""How often the resumed replica must read its Lease before the test concludes that it sends no write."""
CONFLICT = 409
TEST_FAILED = 422


@dataclass
class Outcome:
    """The status of each held request, facts about the final objects, and the writes of the resumed replica."""

    statuses: dict[str, int] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    writes_after_resume: list[Call] = field(default_factory=list)


class ReplicaPair:
    """Two replicas of a component; the first one talks to the API server through the relay."""

    def __init__(self, processes: Replicas, api_relay: Relay, name: str) -> None:
        self._processes, self._relay, self._name = processes, api_relay, name
        self._first: Replica | None = None
        self.held: dict[str, HeldRequest] = {}

    async def start(self) -> None:
        """Start the watcher, then the first replica, which becomes leader, then the second, a standby."""
        start = self._processes.start
        await asyncio.to_thread(start, "watcher", "one")
        config = self._processes.kubeconfig(self._relay.url)
        self._first = await asyncio.to_thread(start, self._name, "first", config)
        await self.until_leader_is("first")
        await asyncio.to_thread(start, self._name, "second")

    def hold(self, step: str, method: str, ending: str, having: str = "", **others: Unpack[Others]) -> None:
        """Hold a request of the first replica; `step` names it."""
        self.held[step] = self._relay.hold(method, ending, having, **others)

    async def until_leader_is(self, identity: str) -> None:
        """Wait until a replica is the leader."""
        async with asyncio.timeout(patient(20)):
            while await asyncio.to_thread(self._processes.holder, self._name) != f"{self._name}-{identity}":
                await asyncio.sleep(0.05)

    async def pause(self) -> None:
        """Pause the first replica as soon as all requests to be held have arrived."""
        arrivals = {step: asyncio.create_task(held.arrived()) for step, held in self.held.items()}
        await asyncio.wait(arrivals.values(), timeout=8)  # the replica's own requests time out after 10 s
        missing = [step for step, arrival in arrivals.items() if not arrival.done()]
        sent = [(call.method, call.path, call.status) for call in self._relay.writes()]
        assert not missing, f"not sent: {missing}; the writes sent: {sent}"
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._first is not None
        self._first.signal(number)

    async def resume(self, outcome: Outcome) -> None:
        """Forward the held requests, resume the first replica, and wait for LEASE_READS reads of its Lease."""
        for step, held in self.held.items():
            outcome.statuses[step] = await held.release()
        before = len(self._relay.calls)
        self._signal(signal.SIGCONT)
        own = f"/leases/flexinfer-{self._name}"
        async with asyncio.timeout(patient(20)):
            while sum(c.path.endswith(own) for c in self._relay.calls[before:]) < LEASE_READS:
                await asyncio.sleep(0.05)
        outcome.writes_after_resume = self._relay.writes(before)


Scenario = Callable[[ReplicaPair, Owners, KubernetesClient, Outcome], Awaitable[None]]


def run_scenario(plane: Running, folder: Path, name: str, scenario: Scenario) -> Outcome:
    """Run a scenario and return its outcome."""
    outcome, server = Outcome(), instances.load(plane.state)

    async def run() -> None:
        async with (
            replicas(plane, folder) as processes,
            relay(server.api_url, str(server.certificates / "ca.crt")) as api_relay,
            connected(str(server.kubeconfig)) as cluster,
        ):
            pair, owners = ReplicaPair(processes, api_relay, name), Owners(cluster, f"fencing-{name}")
            await owners.open()
            await pair.start()
            await scenario(pair, owners, cluster, outcome)

    asyncio.run(run())
    return outcome


# --- the launcher


async def launcher_scenario(
    pair: ReplicaPair, owners: Owners, _cluster: KubernetesClient, outcome: Outcome
) -> None:
    """Start four Models and stop three, each up to a different step."""
    alone, shared = ("finalizer", "stopped", "released"), ("post", "look", "gate", "delete")
    for name in alone:
        await owners.apply(name)
    for name in shared:
        await owners.apply(name, group=name)
    for name in (*alone, *shared):
        await owners.prepare(name)
        await owners.want(name)
    for name in ("stopped", "released"):
        await owners.write_condition(name, conditions.GRANTED, "True", Reason.NOT_SHARED)
    await owners.turn("delete", "delete", 1, GRANTED)
    for name in ("stopped", "released", "delete"):
        await owners.until_pod(name, lambda pod: pod is not None and not pod.spec.scheduling_gates)
        await owners.until(name, lambda model: model.condition(conditions.READY) is not None)
    pair.hold("post", "POST", "/pods", '"post-0"')
    pair.hold("finalizer", "PATCH", "/models/finalizer", RUNNING_FINALIZER)
    pair.hold("look", "GET", "/sharedgroups/look", answered=True)
    pair.hold("gate", "PATCH", "/pods/gate-0")
    pair.hold("delete", "DELETE", "/pods/delete-0")
    pair.hold("stopped", "PATCH", "/models/stopped/status", '"Stopped"')
    pair.hold("released", "PATCH", "/models/released", "/metadata/finalizers")
    await asyncio.gather(
        owners.want("delete", "False"),
        owners.want("stopped", "False"),
        owners.delete("released"),
        owners.write_condition("finalizer", conditions.GRANTED, "True", Reason.NOT_SHARED),
        *(owners.turn(name, name, 1, GRANTED) for name in ("post", "look", "gate")),
    )
    await pair.pause()
    await _take_over(pair, owners, outcome)
    await pair.resume(outcome)
    await _record_objects(owners, outcome)


async def _take_over(pair: ReplicaPair, owners: Owners, outcome: Outcome) -> None:
    """Have the second replica take over, and grant other turns."""
    await owners.delete("finalizer")
    await owners.gone("finalizer")
    await owners.apply("finalizer")
    await owners.turn("post", "post", 2, GRANTED)
    for name in ("look", "gate"):
        await owners.turn(name, name, 1, RELEASING)
    await pair.until_leader_is("second")
    for name in ("look", "gate", "delete"):
        await owners.until_pod(name, lambda pod: pod is None)
    await owners.gone("released")
    await owners.apply("released")
    await owners.until("stopped", _ready_reason_is(Reason.STOPPED))
    for name in ("gate", "delete"):
        await owners.turn(name, name, 2, GRANTED)
    for name in ("stopped", "delete"):
        await owners.want(name)
    for name in ("post", "gate", "delete", "stopped"):
        pod = await owners.until_pod(name, lambda pod: pod is not None and not pod.spec.scheduling_gates)
        outcome.facts[f"pod of {name}"] = pod.metadata.uid if pod else ""
    await owners.until("stopped", _ready_reason_is(Reason.STARTING))


def _ready_reason_is(reason: str) -> Callable[[Model], bool]:
    """Return a predicate: the launcher's Ready condition has this reason."""
    return lambda model: any(
        c.type == conditions.READY and c.reason == reason for c in model.status.conditions
    )


async def _record_objects(owners: Owners, outcome: Outcome) -> None:
    for name in ("post", "gate", "delete", "stopped"):
        pod = await owners.pod(name)
        outcome.facts[f"pod of {name} afterwards"] = pod.metadata.uid if pod else ""
    outcome.facts["look"] = await owners.pod("look")
    outcome.facts["finalizers"] = (await owners.model("finalizer")).metadata.finalizers
    outcome.facts["orphan"] = await owners.until_pod("finalizer", lambda pod: pod is None)
    outcome.facts["released"] = (await owners.model("released")).deleting
    ready = (await owners.model("stopped")).condition(conditions.READY)
    outcome.facts["stopped"] = ready.reason if ready else ""


@pytest.fixture(scope="module")
def launcher(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of the launcher's scenario."""
    return run_scenario(plane, tmp_path_factory.mktemp("launcher"), "launcher", launcher_scenario)


def test_a_start_paused_before_the_pod_is_created_gets_a_conflict(launcher: Outcome) -> None:
    """Another turn was granted meanwhile, and its Pod has the same name."""
    assert launcher.statuses["post"] == CONFLICT
    assert launcher.facts["pod of post"] == launcher.facts["pod of post afterwards"]


def test_a_start_paused_before_the_finalizer_does_not_add_it_to_a_namesake(launcher: Outcome) -> None:
    """The patch tests the uid; the gated Pod of the previous Model is garbage-collected with that Model."""
    assert launcher.statuses["finalizer"] == TEST_FAILED
    assert not launcher.facts["finalizers"]
    assert launcher.facts["orphan"] is None


def test_a_start_paused_after_it_read_the_shared_group_removes_no_gate(launcher: Outcome) -> None:
    """The turn is `Granted`, but its leader Lease has expired by its own clock: it sends no patch."""
    assert launcher.statuses["look"] == 200
    assert launcher.facts["look"] is None
    assert not [call for call in launcher.writes_after_resume if "look-0" in call.path]


def test_a_start_paused_before_the_gate_does_not_remove_the_gate_of_another_pod(launcher: Outcome) -> None:
    """The patch tests uid and gate, and the Pod with that name belongs to another turn."""
    assert launcher.statuses["gate"] == TEST_FAILED
    assert launcher.facts["pod of gate"] == launcher.facts["pod of gate afterwards"]


def test_a_stop_paused_before_the_delete_does_not_delete_another_pod(launcher: Outcome) -> None:
    """The delete has the uid of the Pod that the decision was made on as its precondition."""
    assert launcher.statuses["delete"] == CONFLICT
    assert launcher.facts["pod of delete"] == launcher.facts["pod of delete afterwards"]


def test_a_stop_paused_before_its_status_write_does_not_overwrite_a_new_start(launcher: Outcome) -> None:
    """The status write has the resourceVersion.

    After the conflict it is not repeated on the newer version.
    """
    assert launcher.statuses["stopped"] == CONFLICT
    assert launcher.facts["stopped"] == Reason.STARTING
    assert launcher.facts["pod of stopped"] == launcher.facts["pod of stopped afterwards"]


def test_a_stop_paused_before_it_removes_the_finalizer_does_not_touch_a_namesake(launcher: Outcome) -> None:
    """The patch tests the resourceVersion that was read before the list of Pods."""
    assert launcher.statuses["released"] == TEST_FAILED
    assert launcher.facts["released"] is False


def test_a_resumed_launcher_sends_no_write(launcher: Outcome) -> None:
    """By its own clock its Lease has expired, so it is a standby."""
    assert launcher.writes_after_resume == []


# --- the arbiter

HOLDERS = ("release", "stop", "free")
QUEUED = ("grant", "first", "status")


async def arbiter_scenario(
    pair: ReplicaPair, owners: Owners, cluster: KubernetesClient, outcome: Outcome
) -> None:
    """Bring three groups to a step at the end of a turn and three to a step at its start."""
    for name in (*HOLDERS, *QUEUED):
        await owners.apply(name, group=name)
        await owners.prepare(name)
    await owners.apply("rival", group="grant")
    await owners.prepare("rival")
    await owners.write_group("grant", SharedGroupStatus(turn=4))
    for name in HOLDERS:
        await owners.want(name)
        await owners.until(name, lambda model: model.is_true(conditions.GRANTED))
    for name in ("stop", "free"):
        await owners.want(name, "False")
        await owners.until_group(name, _step_is(RELEASING))
    turns = {name: await _turn(owners, name) for name in HOLDERS}
    pair.hold("grant", "PUT", "/sharedgroups/grant/status", _step_json(GRANTED))
    pair.hold("first", "PUT", "/sharedgroups/first/status", _step_json(GRANTED))
    pair.hold("release", "PUT", "/sharedgroups/release/status", _step_json(RELEASING))
    pair.hold("stop", "PUT", "/sharedgroups/stop/status", _step_json(STOPPED))
    pair.hold("free", "PUT", "/sharedgroups/free/status", lacking='"holders"')  # an empty list is left out
    pair.hold("status", "PATCH", "/models/status/status", '"True"')
    await asyncio.gather(
        *(owners.want(name) for name in QUEUED),
        owners.want("release", "False"),
        *(owners.stopped(name, turns[name]) for name in ("stop", "free")),
    )
    await pair.pause()
    await owners.want("grant", "False")
    await owners.want("rival")
    await pair.until_leader_is("second")
    await owners.until("rival", lambda model: model.is_true(conditions.GRANTED))
    for name in ("first", "status"):
        await owners.until(name, lambda model: model.is_true(conditions.GRANTED))
    for name, step in (("release", RELEASING), ("stop", ""), ("free", "")):
        await owners.until_group(name, _step_is(step))
    for name in (*HOLDERS, *QUEUED):
        outcome.facts[f"{name} before"] = await owners.group(name)
    await pair.resume(outcome)
    for name in (*HOLDERS, *QUEUED):
        outcome.facts[name] = await owners.group(name)
    outcome.facts["turns"] = turns


async def _turn(owners: Owners, name: str) -> int:
    """Return the turn that a group's holder has."""
    group = await owners.until_group(name, lambda group: group is not None and group.status.holders)
    assert group is not None
    return group.status.holders[0].turn


def _step_is(step: str) -> Callable[[SharedGroup | None], bool]:
    """Return a predicate: the holder is at this step; none holds the devices if it is empty."""
    return lambda group: (
        group is not None and [h.step for h in group.status.holders] == ([step] if step else [])
    )


def _step_json(step: str) -> str:
    return f'"step":"{step}"'


@pytest.fixture(scope="module")
def arbiter(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The outcome of the arbiter's scenario."""
    return run_scenario(plane, tmp_path_factory.mktemp("arbiter"), "arbiter", arbiter_scenario)


def test_a_grant_of_a_device_that_another_model_holds_is_refused(arbiter: Outcome) -> None:
    """By the resourceVersion of the SharedGroup: a turn has one holder."""
    assert arbiter.statuses["grant"] == CONFLICT
    group = arbiter.facts["grant"]
    assert isinstance(group, SharedGroup)
    assert [(h.model, h.turn, h.step) for h in group.status.holders] == [("rival", 5, GRANTED)]


@pytest.mark.parametrize("step", ["first", "release", "stop", "free"])
def test_every_other_step_of_a_turn_is_refused_too(arbiter: Outcome, step: str) -> None:
    """The new leader has made the step, so the resourceVersion is stale."""
    assert arbiter.statuses[step] == CONFLICT
    group, before, turns = arbiter.facts[step], arbiter.facts[f"{step} before"], arbiter.facts["turns"]
    assert isinstance(group, SharedGroup)
    assert isinstance(before, SharedGroup)
    assert isinstance(turns, dict)
    assert group.status.holders == before.status.holders
    assert step == "first" or group.status.turn == turns[step]


def test_a_status_write_of_a_member_is_refused_by_its_resource_version(arbiter: Outcome) -> None:
    """As for every status write."""
    assert arbiter.statuses["status"] == CONFLICT


def test_a_resumed_arbiter_sends_no_write(arbiter: Outcome) -> None:
    """By its own clock its Lease has expired, so it is a standby."""
    assert arbiter.writes_after_resume == []
