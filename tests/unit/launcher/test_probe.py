"""The prober: which engines it asks, how often, what it trusts, and what it reports. In virtual time."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import msgspec

from flexinfer.api.model import BackendStatus, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.workload import pod_facts
from flexinfer.launcher.engine_client import Answer, Ask
from flexinfer.launcher.manifests import engine_pod, template
from flexinfer.launcher.memory import EngineProbed, Memory, remember
from flexinfer.launcher.probe import STEADY, Prober
from flexinfer.launcher.probe_attempt import CONFIRM_SECONDS
from flexinfer.runtime.kubernetes.api import PODS
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import Observation, ObservedState
from tests.runtimes import a_runtime
from tests.simulation.loop import run
from tests.unit.launcher.models import IDLE, SETTINGS, a_probe, a_start
from tests.unit.launcher.world import World

REFUSED = Answer(0, detail="no connection", refused=True)


class Bench:
    """A prober, the world that it looks at, and an engine whose answers the test decides."""

    def __init__(self, model: Model, ip: str = "127.0.0.9") -> None:
        self.model, self.world = model, World()
        rendered = template(model, SETTINGS)
        assert rendered is not None
        body = msgspec.to_builtins(engine_pod(model, 0, rendered))
        body["spec"]["schedulingGates"] = []
        body["status"] = {"podIP": ip, "containerStatuses": [{"name": "engine", "state": {"running": {}}}]}
        self.world.put("pods", body)
        self.asked: list[tuple[float, str]] = []
        self.reported: list[EngineProbed] = []
        self.answer: Callable[[str], Answer] = lambda _url: REFUSED
        self.prober = Prober(self.opened)
        facts = pod_facts(msgspec.convert(self.world.find("pods", "llama-0"), PODS.type))
        self.state = apply_events(
            ObservedState(connected_since=0.0), [Observation(events.ModelObserved(model=model), 0.0)]
        )
        self.memory = remember(Memory(), a_probe(model, facts, healthy=False), 0.0)

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[Ask]:
        """Open a client of the engine."""

        async def ask(url: str) -> Answer:
            self.asked.append((asyncio.get_running_loop().time(), url))
            return self.answer(url)

        yield ask

    def remember(self, fact: EngineProbed) -> None:
        """Apply what the prober reports, as the controller would."""
        self.reported.append(fact)
        self.memory = remember(self.memory, fact, asyncio.get_running_loop().time())
        self.observe()

    def see(self, event: AnyEvent) -> None:
        """Apply an event, as the controller would."""
        now = asyncio.get_running_loop().time()
        self.state = apply_events(self.state, [Observation(event, now)])
        self.observe()

    def observe(self) -> None:
        """Let the prober see what the controller sees: what was touched, and the newest state."""
        self.prober.touch([self.model.key])
        self.prober.observe(self.state, self.memory)

    async def watched(self, *story: tuple[float, Callable[[], object]]) -> None:
        """Let the prober watch while things happen, each some seconds after the one before."""
        runtime = a_runtime("launcher", cluster=self.world)
        self.observe()
        watch = asyncio.create_task(self.prober.watch(runtime, self.remember))
        for seconds, happens in story:
            await asyncio.sleep(seconds)
            happens()
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


def end() -> None:
    """Do nothing: the story is over."""


def watched(bench: Bench, *story: tuple[float, Callable[[], object]]) -> Bench:
    """Run a story in virtual time."""
    work: Coroutine[Any, Any, None] = bench.watched(*story)
    run(work)
    return bench


def pauses(bench: Bench) -> list[float]:
    """Return how long the prober waited between two probes."""
    times = [at for at, _ in bench.asked]
    return [round(b - a, 3) for a, b in itertools.pairwise(times)]


def test_probes_often_at_first_and_less_often_later() -> None:
    """A hundredth of the wait so far: 5 ms at first, 100 ms from 10 s on."""
    bench = watched(Bench(a_start(ready=("False", Reason.LOADING))), (12, end))
    assert pauses(bench)[0] == 0.005
    assert pauses(bench)[-1] == 0.1
    times = [at - bench.asked[0][0] for at, _ in bench.asked]
    assert all(b - a <= max(0.005, 0.01 * a) + 1e-6 for a, b in itertools.pairwise(times))
    assert len(times) < 600


def test_reports_once_that_an_engine_answers_and_probes_on_each_second() -> None:
    """Only changes are reported."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))
    bench.answer = lambda _url: Answer(200)
    watched(bench, (5, end))
    assert [r.healthy for r in bench.reported] == [True]
    assert pauses(bench) == [STEADY] * 4
    assert bench.asked[0][1] == "http://127.0.0.9:8080/health"


def test_an_ipv6_address_stands_in_brackets() -> None:
    """As a URL wants it."""
    bench = watched(Bench(a_start(ready=("False", Reason.LOADING)), "fd00::9"), (1, end))
    assert bench.asked[0][1] == "http://[fd00::9]:8080/health"


def test_an_engine_at_an_ipv6_address_that_was_ready_stays_so_when_it_answers_late() -> None:
    """Its address in the status has brackets, the Pod's has none."""
    status = BackendStatus(address="[fd00::9]:8080")
    bench = Bench(a_start(ready=("True", Reason.READY), backend_status=status), "fd00::9")
    answers = iter([Answer(0, detail="no answer: timeout")])
    bench.answer = lambda _url: next(answers, Answer(200))
    watched(bench, (1.5, end))
    assert [r.healthy for r in bench.reported] == [True]


def test_an_answer_that_is_no_success_is_not_healthy() -> None:
    """503 while it loads."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))
    bench.answer = lambda _url: Answer(503)
    watched(bench, (1, end))
    assert [(r.healthy, r.detail) for r in bench.reported] == [(False, "health check: HTTP 503")]


def test_a_pod_without_an_address_is_read_until_it_has_one() -> None:
    """The address comes from the API server, for that uid, and from nowhere else."""
    bench = Bench(a_start(ready=("False", Reason.STARTING)), ip="")
    bench.answer = lambda _url: Answer(200)

    def gets_address() -> None:
        bench.world.touch("pods", "llama-0", lambda p: p["status"].update(podIP="127.0.0.7"))

    watched(bench, (0.5, gets_address), (0.1, end))
    assert bench.asked[0][1] == "http://127.0.0.7:8080/health"
    assert 0.5 <= bench.asked[0][0] <= 0.5 + 2 * 0.1


def test_an_address_of_another_pod_is_not_asked() -> None:
    """Another uid means that the Pod was deleted."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))
    bench.world.touch("pods", "llama-0", lambda p: p["metadata"].update(uid="another"))
    watched(bench, (0.05, end))
    assert bench.asked == []
    assert bench.reported[0].gone


def test_a_refused_connection_ends_readiness_at_once() -> None:
    """The process has ended."""
    bench = Bench(a_start(ready=("True", Reason.READY)))
    bench.answer = lambda _url: Answer(200)

    def dies() -> None:
        bench.answer = lambda _url: REFUSED

    watched(bench, (2.5, dies), (0.6, end))
    assert [r.healthy for r in bench.reported] == [True, False]


def test_one_slow_answer_does_not_end_readiness() -> None:
    """A busy engine may be late; three in a row are a failure."""
    bench = Bench(a_start(ready=("True", Reason.READY)))
    slow = Answer(0, detail="no answer")
    given = iter([Answer(200), slow, slow, Answer(200), slow, slow, slow])
    bench.answer = lambda _url: next(given, slow)
    watched(bench, (3, end))
    assert [r.healthy for r in bench.reported][:1] == [True]
    watched_states = [r.healthy for r in bench.reported]
    assert watched_states in ([True, False], [True])


def test_a_pod_that_was_deleted_is_reported() -> None:
    """Before the watch reports it."""
    bench = Bench(a_start(ready=("True", Reason.READY)))
    bench.answer = lambda _url: Answer(200)

    def vanishes() -> None:
        bench.world.things.pop(("pods", "default", "llama-0"))
        bench.answer = lambda _url: REFUSED

    watched(bench, (0.5, vanishes), (1, end))
    assert bench.reported[-1].gone
    assert bench.reported[-1].pod is None


def test_a_pod_that_was_deleted_while_its_engine_loads_is_reported() -> None:
    """No watch may ever report it: a Pod that came and went between two of its messages."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))
    bench.answer = lambda _url: REFUSED
    watched(
        bench,
        (0.5, lambda: bench.world.things.pop(("pods", "default", "llama-0"))),
        (CONFIRM_SECONDS + 1, end),
    )
    assert bench.reported[-1].gone


def test_a_draining_engine_is_asked_at_once_for_its_requests_in_flight() -> None:
    """The stop waits for that number."""
    bench = Bench(a_start(ready=("True", Reason.READY)))
    bench.answer = lambda url: Answer(200, "llamacpp:requests_processing 2\n" if "metrics" in url else "")

    def drains() -> None:
        bench.see(events.ModelObserved(model=a_start(*IDLE, ready=("False", Reason.DRAINING), version=2)))

    watched(bench, (0.5, drains), (0.05, end))
    assert bench.reported[-1].in_flight == 2


def test_an_engine_whose_process_has_ended_has_no_requests_in_flight() -> None:
    """A refused connection, while it drains: nothing is left to wait for."""
    bench = watched(Bench(a_start(*IDLE, ready=("False", Reason.DRAINING))), (0.05, end))
    assert bench.reported[-1].in_flight == 0


def test_one_engine_that_cannot_be_probed_does_not_end_the_probing() -> None:
    """Whatever fails in one probe costs that engine, which is asked again."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))

    def fails(_url: str) -> Answer:
        raise ValueError("an engine's answer that no code expected")

    def recovers() -> None:
        bench.answer = lambda _url: Answer(200)

    bench.answer = fails
    watched(bench, (0.5, recovers), (1, end))
    assert [r.healthy for r in bench.reported] == [True]


class CountedModels(dict[str, Model]):
    """Models that count how many of them were looked at."""

    looked_at = 0

    def get(self, key: str, default: Any = None) -> Any:
        """Return a Model."""
        self.looked_at += 1
        return super().get(key, default)

    def __iter__(self) -> Any:
        """Fail: a change must not walk all Models."""
        raise AssertionError("all Models were walked")

    values = items = keys = __iter__


def test_a_change_costs_the_models_that_it_touches() -> None:
    """However many others there are."""
    bench = Bench(a_start(ready=("False", Reason.LOADING)))
    models = CountedModels({f"default/m{n}": a_start(*IDLE, name=f"m{n}") for n in range(2000)})
    models[bench.model.key] = bench.model
    bench.state = msgspec.structs.replace(bench.state, models=models)
    bench.answer = lambda _url: Answer(200)
    watched(bench, (2.5, end))
    assert [r.healthy for r in bench.reported] == [True]
    assert models.looked_at < 20


def test_a_running_engine_that_is_observed_again_is_not_probed_again() -> None:
    """Its next probe is a second after the last, whatever else happens."""
    bench = Bench(a_start(ready=("True", Reason.READY)))
    bench.answer = lambda _url: Answer(200)
    watched(bench, *[(0.1, bench.observe)] * 25)
    assert pauses(bench) == [STEADY] * 2
