"""When a drain is over: unknown is not drained, and what a proxy said before it had seen the stop does not count."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.model import Model
from flexinfer.events import events
from flexinfer.launcher.drain import ALL_HEARD_SECONDS, PROXY_QUIET_SECONDS
from flexinfer.launcher.effects import Stop
from flexinfer.launcher.memory import Memory, remember
from flexinfer.state.actions import CatchUp, RequeueAt
from flexinfer.state.apply import apply_events
from flexinfer.state.observed import HEARTBEAT_GAP, Observation, ObservedState
from tests.builders import NOW
from tests.unit.launcher.deciding import decide, decided, draining, quiet, traffic
from tests.unit.launcher.models import SETTINGS, a_probe, holding, its_pod, observed

DEADLINE = RequeueAt(NOW + SETTINGS.drain_seconds)


def heartbeat(proxy: str = "p", version: int = 0) -> events.ProxyObserved:
    """Return the heartbeat of a proxy that has observed Models up to a version."""
    return events.ProxyObserved(proxy=proxy, version=version)


def a_drain(*parts: Any, connected: float = 0.0, **changes: Any) -> tuple[ObservedState, Memory, Model]:
    """Return a drain whose engine says that it has no requests; the parts are observed after its beginning."""
    model = draining(version=7, **changes)
    pod = its_pod(model)
    state, memory = observed(model, holding(model, pod), quiet(model, pod), *parts)
    return msgspec.structs.replace(state, connected_since=connected), memory, model


def at(now: float, state: ObservedState, memory: Memory) -> Any:
    """Return the one action that is decided."""
    [action] = decide(state, memory, now, settings=SETTINGS)
    return action


def later(state: ObservedState, now: float, *facts: Any) -> ObservedState:
    """Return the state after events at a later time."""
    return apply_events(state, [Observation(fact, now) for fact in facts])


def test_without_any_proxy_a_drain_lasts_until_its_deadline() -> None:
    """NATS was restarted, and its memory of heartbeats is gone; each request came through a proxy."""
    state, memory, _ = a_drain()
    assert at(NOW + 29, state, memory) == DEADLINE
    assert isinstance(at(NOW + 30, state, memory), Stop)


def test_after_a_reconnection_every_proxy_is_given_time_to_be_heard() -> None:
    """One has said that it is done; another may not have been heard yet."""
    model = draining(version=7)
    state, memory, _ = a_drain(traffic(model, "p", 0), connected=NOW)
    assert at(NOW + 1, state, memory) == RequeueAt(NOW + ALL_HEARD_SECONDS)
    assert isinstance(at(NOW + ALL_HEARD_SECONDS, state, memory), Stop)


def test_a_report_counts_only_if_its_proxy_had_seen_the_stop() -> None:
    """It was published before, and the proxy may have sent a request since."""
    model = draining(version=7)
    state, memory, _ = a_drain(traffic(model, "p", 0, version=6))
    assert at(NOW + 5, state, memory) == RequeueAt(NOW + HEARTBEAT_GAP)
    state = later(state, NOW + 5, traffic(model, "p", 0, version=7))
    assert isinstance(at(NOW + 5, state, memory), Stop)


def test_a_heartbeat_counts_only_if_its_proxy_had_seen_the_stop() -> None:
    """And only a moment later: a request that it had would have been reported by then."""
    state, memory, _ = a_drain(heartbeat(version=6))
    state = later(state, NOW + 5, heartbeat(version=6))
    assert at(NOW + 7, state, memory) == RequeueAt(NOW + 5 + HEARTBEAT_GAP)
    state = later(state, NOW + 10, heartbeat(version=8))
    done_at = NOW + 10 + PROXY_QUIET_SECONDS
    assert at(NOW + 10, state, memory) == RequeueAt(done_at)
    other = events.ActivityObserved(
        proxy="p",
        namespace="default",
        name="other",
        uid="o",
        idle_seconds=0,
        in_flight=3,
        waiting=0,
        version=9,
    )
    state = later(state, NOW + 10.9, other)
    assert isinstance(at(done_at, state, memory), Stop)


def test_a_heartbeat_of_a_proxy_with_a_request_in_flight_does_not_count() -> None:
    """Whatever version it has seen."""
    model = draining(version=7)
    state, memory, _ = a_drain(traffic(model, "p", 1), heartbeat(version=9))
    assert at(NOW + 5, state, memory) == DEADLINE


def test_a_silent_proxy_with_a_request_in_flight_is_waited_for() -> None:
    """It may still send what it has; without one it is given up."""
    model = draining(version=7)
    state, memory, _ = a_drain(traffic(model, "silent", 1), traffic(model, "p", 0))
    state = later(state, NOW + 20, heartbeat("p", 7))
    assert at(NOW + 20, state, memory) == DEADLINE
    state, memory, _ = a_drain(traffic(model, "silent", 0, version=6), traffic(model, "p", 0))
    state = later(state, NOW + 14, heartbeat("p", 7))
    assert isinstance(at(NOW + 16, state, memory), Stop)


def test_a_proxy_is_given_up_once_everything_was_read_that_it_may_have_sent() -> None:
    """A launcher that was paused holds every proxy for silent."""
    model = draining(version=7)
    state, memory, _ = a_drain(traffic(model, "silent", 0, version=6), traffic(model, "p", 0))
    state = later(state, NOW + 14, heartbeat("p", 7))
    behind = msgspec.structs.replace(state, caught_up_at=NOW + 14)
    assert at(NOW + 16, behind, memory) == CatchUp()
    cut_off = msgspec.structs.replace(behind, connected_since=None)
    assert isinstance(
        at(NOW + SETTINGS.drain_seconds, cut_off, memory), Stop
    )  # the deadline does not wait for NATS


def test_a_stop_waits_for_the_engine_itself() -> None:
    """Requests that reached it past the proxies count as well."""
    model = draining()
    pod = its_pod(model)
    assert decided(model, holding(model, pod), quiet(model, pod, in_flight=2), traffic(model, "p", 0)) == [
        DEADLINE
    ]


def test_an_engine_that_told_since_the_drain_began_that_it_has_no_request_is_done() -> None:
    """At any moment of the drain, not only at its first; what it told before does not count."""
    model = draining()
    pod = its_pod(model)
    state, memory = observed(model, holding(model, pod), traffic(model, "p", 0))
    before, since = (remember(memory, quiet(model, pod), NOW + seconds) for seconds in (-1, 2))
    assert at(NOW + 3, state, before) == DEADLINE
    assert isinstance(at(NOW + 3, state, since), Stop)


@pytest.mark.parametrize("probed", [False, True])
def test_an_engine_that_told_no_number_is_busy(probed: bool) -> None:  # noqa: FBT001
    """It was not asked yet, or its answer could not be read."""
    model = draining()
    pod = its_pod(model)
    parts = (model, holding(model, pod), traffic(model, "p", 0))
    assert decided(*parts, *([a_probe(model, pod)] if probed else [])) == [DEADLINE]


def test_an_engine_that_counts_no_requests_is_not_asked() -> None:
    """Its backend has no such number: the proxies' reports are what there is."""
    model = draining(backend="ollama", source="ollama://smollm2")
    pod = its_pod(model)
    [action] = decided(model, holding(model, pod), traffic(model, "p", 0))
    assert isinstance(action, Stop)


@pytest.mark.parametrize("changes", [{"deleting": True}, {"phase": "Failed"}])
def test_an_engine_that_has_ended_or_ends_in_any_case_has_nothing_to_drain(changes: dict[str, Any]) -> None:
    """No request can reach it."""
    model = draining()
    [action] = decided(model, holding(model, its_pod(model, **changes)))
    assert isinstance(action, Stop)
