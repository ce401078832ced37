"""A paused holder that wakes changes nothing: each write that it had under way is refused by the real API server, and it sends no other.

The holder runs behind a relay that stops it at named steps of a start, a stop and a grant (DESIGN 6, steps 5 and 6), one Model a step. Then it is
paused (SIGSTOP), its Lease runs out, a second replica takes over and the world moves on; at last its requests go through, and it wakes (SIGCONT).
The launcher's and the arbiter's story are each told once; every test looks at one step of it.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from flexinfer.api import conditions
from flexinfer.api.labels import RUNNING_FINALIZER
from flexinfer.api.model import Model
from flexinfer.api.reasons import Reason
from flexinfer.events.workload import FREED, GRANTED, RELEASING, STOPPED, GroupLease, lease_name, lease_of
from flexinfer.local import instance as instances
from flexinfer.runtime.kubernetes.api import LEASES
from flexinfer.runtime.kubernetes.client import KubernetesClient, connected
from tests.cluster.others import Others
from tests.cluster.relay import Call, Held, Relay, relay
from tests.cluster.replicas import Replica, Replicas, replicas
from tests.instance import Running

SECOND_LOOKS = 3
"""How often the woken one is seen to look at its Lease before we say that it sends nothing."""
CHANGED_HANDS = 409
FAILED_TEST = 422


@dataclass
class Told:
    """What became of each held request, what stands at the end, and what the woken replica sent."""

    statuses: dict[str, int] = field(default_factory=dict)
    facts: dict[str, object] = field(default_factory=dict)
    sent_awake: list[Call] = field(default_factory=list)


class Stage:
    """A service in two replicas: the first behind the relay."""

    def __init__(self, processes: Replicas, way: Relay, name: str) -> None:
        self._processes, self._way, self._name = processes, way, name
        self._first: Replica | None = None
        self.held: dict[str, Held] = {}

    async def enter(self) -> None:
        """Start the watcher, then the first replica, which leads, then the second, which stands by."""
        start = self._processes.start
        await asyncio.to_thread(start, "watcher", "one")
        config = self._processes.kubeconfig(self._way.url)
        self._first = await asyncio.to_thread(start, self._name, "first", config)
        await self.led_by("first")
        await asyncio.to_thread(start, self._name, "second")

    def hold(self, step: str, method: str, ending: str, having: str = "", *, answered: bool = False) -> None:
        """Stop the first replica at a step."""
        self.held[step] = self._way.hold(method, ending, having, answered=answered)

    async def led_by(self, identity: str) -> None:
        """Wait until a replica holds the Lease."""
        async with asyncio.timeout(20):
            while await asyncio.to_thread(self._processes.holder, self._name) != f"{self._name}-{identity}":
                await asyncio.sleep(0.05)

    async def pause(self) -> None:
        """Pause the first replica once it waits at every step."""
        async with asyncio.timeout(8):  # its own requests end after ten
            await asyncio.gather(*(held.arrived() for held in self.held.values()))
        self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        assert self._first is not None
        self._first.signal(number)

    async def wake(self, told: Told) -> None:
        """Let its requests through, wake it, and wait until it has looked at its Lease a few times."""
        for step, held in self.held.items():
            told.statuses[step] = await held.let_go()
        before = len(self._way.calls)
        self._signal(signal.SIGCONT)
        own = f"/leases/flexinfer-{self._name}"
        async with asyncio.timeout(20):
            while sum(c.path.endswith(own) for c in self._way.calls[before:]) < SECOND_LOOKS:
                await asyncio.sleep(0.05)
        told.sent_awake = [call for call in self._way.calls[before:] if call.writes]


Story = Callable[[Stage, Others, KubernetesClient, Told], Awaitable[None]]


def tell(plane: Running, folder: Path, name: str, story: Story) -> Told:
    """Tell a story and return what came of it."""
    told, server = Told(), instances.load(plane.state)

    async def whole() -> None:
        async with (
            replicas(plane, folder) as processes,
            relay(server.api_url, str(server.certificates / "ca.crt")) as way,
            connected(str(server.kubeconfig)) as cluster,
        ):
            stage, others = Stage(processes, way, name), Others(cluster, f"fencing-{name}")
            await others.open()
            await stage.enter()
            await story(stage, others, cluster, told)

    asyncio.run(whole())
    return told


# --- the launcher


async def the_launcher(stage: Stage, others: Others, _cluster: KubernetesClient, told: Told) -> None:
    """Start four Models and stop three, each up to another step."""
    alone, shared = ("finalizer", "stopped", "letgo"), ("post", "look", "gate", "delete")
    for name in alone:
        await others.apply(name)
    for name in shared:
        await others.apply(name, group=name)
    for name in (*alone, *shared):
        await others.prepare(name)
        await others.want(name)
    for name in ("stopped", "letgo"):
        await others.say(name, conditions.GRANTED, "True", Reason.NOT_SHARED)
    await others.turn("delete", "delete", 1, GRANTED)
    for name in ("stopped", "letgo", "delete"):
        await others.until_pod(name, lambda pod: pod is not None and not pod.spec.scheduling_gates)
        await others.until(name, lambda model: model.condition(conditions.READY) is not None)
    stage.hold("post", "POST", "/pods", '"post-0"')
    stage.hold("finalizer", "PATCH", "/models/finalizer", RUNNING_FINALIZER)
    stage.hold("look", "GET", f"/leases/{lease_name('look')}", answered=True)
    stage.hold("gate", "PATCH", "/pods/gate-0")
    stage.hold("delete", "DELETE", "/pods/delete-0")
    stage.hold("stopped", "PATCH", "/models/stopped/status", '"Stopped"')
    stage.hold("letgo", "PATCH", "/models/letgo", "/metadata/finalizers")
    await asyncio.gather(
        others.want("delete", "False"),
        others.want("stopped", "False"),
        others.delete("letgo"),
        others.say("finalizer", conditions.GRANTED, "True", Reason.NOT_SHARED),
        *(others.turn(name, name, 1, GRANTED) for name in ("post", "look", "gate")),
    )
    await stage.pause()
    await _moved_on(stage, others, told)
    await stage.wake(told)
    await _after(others, told)


async def _moved_on(stage: Stage, others: Others, told: Told) -> None:
    """Let the second replica take over, and other turns be granted."""
    await others.delete("finalizer")
    await others.gone("finalizer")
    await others.apply("finalizer")
    await others.turn("post", "post", 2, GRANTED)
    for name in ("look", "gate"):
        await others.turn(name, name, 1, RELEASING)
    await stage.led_by("second")
    for name in ("look", "gate", "delete"):
        await others.until_pod(name, lambda pod: pod is None)
    await others.gone("letgo")
    await others.apply("letgo")
    await others.until("stopped", _says(Reason.STOPPED))
    for name in ("gate", "delete"):
        await others.turn(name, name, 2, GRANTED)
    for name in ("stopped", "delete"):
        await others.want(name)
    for name in ("post", "gate", "delete", "stopped"):
        pod = await others.until_pod(name, lambda pod: pod is not None and not pod.spec.scheduling_gates)
        told.facts[f"pod of {name}"] = pod.metadata.uid if pod else ""
    await others.until("stopped", _says(Reason.STARTING))


def _says(reason: str) -> Callable[[Model], bool]:
    """Return whether the launcher says this of a Model."""
    return lambda model: any(
        c.type == conditions.READY and c.reason == reason for c in model.status.conditions
    )


async def _after(others: Others, told: Told) -> None:
    for name in ("post", "gate", "delete", "stopped"):
        pod = await others.pod(name)
        told.facts[f"pod of {name} afterwards"] = pod.metadata.uid if pod else ""
    told.facts["look"] = await others.pod("look")
    told.facts["finalizers"] = (await others.model("finalizer")).metadata.finalizers
    told.facts["orphan"] = await others.until_pod("finalizer", lambda pod: pod is None)
    told.facts["letgo"] = (await others.model("letgo")).deleting
    ready = (await others.model("stopped")).condition(conditions.READY)
    told.facts["stopped"] = ready.reason if ready else ""


@pytest.fixture(scope="module")
def launcher(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The launcher's story."""
    return tell(plane, tmp_path_factory.mktemp("launcher"), "launcher", the_launcher)


def test_a_start_stopped_before_its_pod_finds_the_name_taken(launcher: Told) -> None:
    """Another turn was granted meanwhile, and its Pod has the one name that there is."""
    assert launcher.statuses["post"] == CHANGED_HANDS
    assert launcher.facts["pod of post"] == launcher.facts["pod of post afterwards"]


def test_a_start_stopped_before_the_finalizer_puts_it_on_no_namesake(launcher: Told) -> None:
    """The patch tests the uid; the gated Pod that was left behind goes with its former Model."""
    assert launcher.statuses["finalizer"] == FAILED_TEST
    assert not launcher.facts["finalizers"]
    assert launcher.facts["orphan"] is None


def test_a_start_stopped_after_its_look_opens_nothing(launcher: Told) -> None:
    """What it read said `Granted`, but by its own clock its Lease is no longer good: it does not even try."""
    assert launcher.statuses["look"] == 200
    assert launcher.facts["look"] is None
    assert not [call for call in launcher.sent_awake if "look-0" in call.path]


def test_a_start_stopped_before_the_gate_opens_no_other_pods_gate(launcher: Told) -> None:
    """The patch tests uid and gate, and the Pod of that name is of another turn."""
    assert launcher.statuses["gate"] == FAILED_TEST
    assert launcher.facts["pod of gate"] == launcher.facts["pod of gate afterwards"]


def test_a_stop_stopped_before_the_delete_deletes_no_other_pod(launcher: Told) -> None:
    """It carries the uid of the Pod that it was decided on."""
    assert launcher.statuses["delete"] == CHANGED_HANDS
    assert launcher.facts["pod of delete"] == launcher.facts["pod of delete afterwards"]


def test_a_stop_stopped_before_its_report_says_nothing_of_a_new_start(launcher: Told) -> None:
    """The status carries the resourceVersion; the refused report is not sent again on the newer one."""
    assert launcher.statuses["stopped"] == CHANGED_HANDS
    assert launcher.facts["stopped"] == Reason.STARTING
    assert launcher.facts["pod of stopped"] == launcher.facts["pod of stopped afterwards"]


def test_a_stop_stopped_before_letting_go_touches_no_namesake(launcher: Told) -> None:
    """The patch tests the resourceVersion that was read before the list of Pods."""
    assert launcher.statuses["letgo"] == FAILED_TEST
    assert launcher.facts["letgo"] is False


def test_a_launcher_that_wakes_sends_no_write(launcher: Told) -> None:
    """It knows by its own clock that its time is over, and stands by."""
    assert launcher.sent_awake == []


# --- the arbiter

HOLDERS = ("release", "stop", "free")
QUEUED = ("grant", "first", "told")


async def the_arbiter(stage: Stage, others: Others, cluster: KubernetesClient, told: Told) -> None:
    """Bring three groups to a step of their turn's end and three to one of its beginning."""
    for name in (*HOLDERS, *QUEUED):
        await others.apply(name, group=name)
        await others.prepare(name)
    await others.apply("rival", group="grant")
    await others.prepare("rival")
    former = GroupLease(namespace="fencing-arbiter", group="grant", step=FREED, turn=4)
    await cluster.create(LEASES, "fencing-arbiter", lease_of(former))
    for name in HOLDERS:
        await others.want(name)
        await others.until(name, lambda model: model.is_true(conditions.GRANTED))
    for name in ("stop", "free"):
        await others.want(name, "False")
        await others.until_lease(name, _at(RELEASING))
    stage.hold("grant", "PUT", f"/leases/{lease_name('grant')}", _step(GRANTED))
    stage.hold("first", "POST", "/leases", lease_name("first"))
    stage.hold("release", "PUT", f"/leases/{lease_name('release')}", _step(RELEASING))
    stage.hold("stop", "PUT", f"/leases/{lease_name('stop')}", _step(STOPPED))
    stage.hold("free", "PUT", f"/leases/{lease_name('free')}", _step(FREED))
    stage.hold("told", "PATCH", "/models/told/status", '"True"')
    await asyncio.gather(
        *(others.want(name) for name in QUEUED),
        others.want("release", "False"),
        *(others.stopped(name, 1) for name in ("stop", "free")),
    )
    await stage.pause()
    await others.want("grant", "False")
    await others.want("rival")
    await stage.led_by("second")
    await others.until("rival", lambda model: model.is_true(conditions.GRANTED))
    for name in ("first", "told"):
        await others.until(name, lambda model: model.is_true(conditions.GRANTED))
    for name, step in (("release", RELEASING), ("stop", FREED), ("free", FREED)):
        await others.until_lease(name, _at(step))
    await stage.wake(told)
    for name in (*HOLDERS, *QUEUED):
        told.facts[name] = await others.lease(name)


def _at(step: str) -> Callable[[GroupLease | None], bool]:
    """Return whether a turn is at this step."""
    return lambda lease: lease is not None and lease.step == step


def _step(step: str) -> str:
    return f'"flexinfer.ai/step":"{step}"'


@pytest.fixture(scope="module")
def arbiter(plane: Running, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The arbiter's story."""
    return tell(plane, tmp_path_factory.mktemp("arbiter"), "arbiter", the_arbiter)


def test_a_grant_of_a_device_that_went_to_another_is_refused(arbiter: Told) -> None:
    """By the resourceVersion of the group's Lease: one turn, one holder."""
    assert arbiter.statuses["grant"] == CHANGED_HANDS
    lease = arbiter.facts["grant"]
    assert isinstance(lease, GroupLease)
    assert (lease.holder, lease.turn, lease.step) == ("rival", 5, GRANTED)


@pytest.mark.parametrize("step", ["first", "release", "stop", "free"])
def test_every_other_step_of_a_turn_is_refused_too(arbiter: Told, step: str) -> None:
    """The successor has made it, so the Lease is not what it was; a first grant finds its name taken."""
    assert arbiter.statuses[step] == CHANGED_HANDS
    lease = arbiter.facts[step]
    assert isinstance(lease, GroupLease)
    assert lease.turn == 1


def test_a_members_verdict_is_refused_by_its_resource_version(arbiter: Told) -> None:
    """As every status."""
    assert arbiter.statuses["told"] == CHANGED_HANDS


def test_an_arbiter_that_wakes_sends_no_write(arbiter: Told) -> None:
    """It knows by its own clock that its time is over, and stands by."""
    assert arbiter.sent_awake == []
