"""Traces, and what a replay makes of them: memory is never over-committed, every request is answered, swaps are rare."""

import itertools
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexinfer.api.sharedgroup import BUDGET, ONE_AT_A_TIME
from flexinfer.cli.replay.first_come import first_come
from flexinfer.cli.replay.play import play, with_mode
from flexinfer.cli.replay.results import SERVING, Outcome, Span, waits_of
from flexinfer.cli.replay.trace import (
    Arrivals,
    Card,
    Trace,
    TraceError,
    TraceGroup,
    TraceModel,
    requests_of,
    seconds_of,
)
from flexinfer.cli.simulate import read

TRACES = sorted((Path(__file__).resolve().parents[3] / "examples" / "traces").glob("*.yaml"))


def chance(seed: str) -> Callable[[], float]:
    """Return what draws the numbers of a seed."""
    return random.Random(seed).random


def a_trace(models: dict[str, dict[str, Any]], arrivals: list[tuple[float, str]], **group: Any) -> Trace:
    """Return a trace of a 24 GB card with requests at these times."""
    return Trace(
        card=Card(memory_mb=24_576),
        group=TraceGroup(**group),
        models=tuple(TraceModel(name=name, **facts) for name, facts in models.items()),
        arrivals=tuple(Arrivals(model=name, at=at) for at, name in arrivals),
    )


def played(trace: Trace, mode: str = BUDGET) -> Outcome:
    """Return the outcome of a trace in a mode of the group."""
    return play(with_mode(trace, mode), requests_of(trace, chance), mode)


def ready(outcome: Outcome, model: str) -> list[Span]:
    """Return when the engine of a Model was ready."""
    return [span for span in outcome.spans if (span.model, span.step) == (model, SERVING)]


def peak_mb(outcome: Outcome) -> int:
    """Return the most memory that was held at any time, in MiB."""
    changes = sorted(
        (at, mb) for s in outcome.spans for at, mb in ((s.begin, s.memory_mb), (s.end, -s.memory_mb))
    )
    return max(itertools.accumulate(change for _, change in changes), default=0)


MODELS = st.lists(
    st.fixed_dictionaries(
        {
            "memory_mb": st.integers(600, 24_000),
            "priority": st.sampled_from([50, 100, 200]),
            "load_seconds": st.sampled_from([1.0, 7.3, 20.0]),
            "service_seconds": st.sampled_from([0.1, 4.2, 20.0]),
            "stop_seconds": st.sampled_from([0.0, 1.0, 2.7]),
            "parallel": st.integers(1, 3),
            "idle_timeout": st.sampled_from(["5s", "1m", "5m"]),
            "exclusive": st.sampled_from([False, False, False, True]),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(
    MODELS,
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 4)), min_size=1, max_size=14),
    st.sampled_from([BUDGET, ONE_AT_A_TIME]),
)
def test_every_request_is_answered_once_and_memory_is_never_over_committed(
    models: list[dict[str, Any]], arrivals: list[tuple[int, int]], mode: str
) -> None:
    """Whatever Models there are, and whenever their requests come; none is longer than a drain, so that none is cut."""
    named = {f"m{i}": facts for i, facts in enumerate(models)}
    trace = a_trace(named, [(at / 10, f"m{i % len(models)}") for at, i in arrivals])
    outcome = played(trace, mode)
    assert peak_mb(outcome) <= trace.budget_mb
    assert outcome.unanswered == 0
    assert [one.number for one in outcome.served] == list(range(len(arrivals)))
    assert all(one.started >= one.at - 1e-6 and not one.cut for one in outcome.served)
    if mode == ONE_AT_A_TIME:  # no Model is within the slack that a driver may keep
        spans = sorted((span.begin, span.end) for span in outcome.spans)
        assert all(end <= begin + 1e-6 for (_, end), (begin, _) in itertools.pairwise(spans))


@pytest.mark.slow
@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
def test_on_the_traces_that_ship_the_budget_swaps_no_more_than_one_at_a_time(path: Path) -> None:
    """And serves no fewer requests without a swap; nothing is cut, and nothing is left over."""
    trace, requests = read(str(path))
    budget, single = (play(with_mode(trace, mode), requests, mode) for mode in (BUDGET, ONE_AT_A_TIME))
    assert budget.without_swap >= single.without_swap
    assert len(budget.swaps) <= len(single.swaps)
    for outcome in (budget, single):
        assert outcome.unanswered == 0
        assert peak_mb(outcome) <= trace.budget_mb
        assert not any(one.cut for one in outcome.served)


def assert_each_swap_takes(stay: float, outcome: Outcome) -> None:
    """A swap that comes sooner was preceded by one that was later by as much: of some in a row only one comes for nothing."""
    for first, last in itertools.combinations(range(len(outcome.swaps)), 2):
        assert outcome.swaps[last] - outcome.swaps[first] >= (last - first - 1) * stay


def test_ping_pong_swaps_at_most_once_in_min_stay() -> None:
    """Two Models that do not fit together, both under load (reliability G12)."""
    trace, requests = read(str(next(path for path in TRACES if path.stem == "ping-pong")))
    outcome = play(trace, requests, BUDGET)
    assert_each_swap_takes(seconds_of(trace.group.min_stay), outcome)
    assert len(outcome.swaps) < len(first_come(trace, requests, "first come").swaps) / 2


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 900), st.booleans()), min_size=2, max_size=40),
    st.sampled_from(["5s", "30s", "1m"]),
    st.sampled_from([1.0, 10.0]),
)
def test_two_models_that_take_turns_are_swapped_once_in_min_stay_on_average(
    arrivals: list[tuple[int, bool]], min_stay: str, load_seconds: float
) -> None:
    """Whenever their requests come; the memory of the one that leaves is back at once."""
    facts = {"memory_mb": 14_000, "load_seconds": load_seconds, "service_seconds": 3.0}
    requests = [(float(at), "left" if left else "right") for at, left in arrivals]
    trace = a_trace({"left": facts, "right": facts}, requests, min_stay=min_stay, max_wait="1h")
    trace = msgspec.structs.replace(trace, card=Card(memory_mb=24_576, release_seconds=0.0))
    assert_each_swap_takes(seconds_of(min_stay), played(trace))


def test_who_comes_back_soon_for_the_first_time_waits_for_no_stay() -> None:
    """Of five Models of which one fits, each is requested, then another, then the first again: a wait is as long as a swap."""
    facts = {"memory_mb": 14_000, "load_seconds": 8.0, "service_seconds": 3.0}
    times = [
        (100.0 * i + at, f"m{(i + turn) % 5}")
        for i in range(1, 12)
        for at, turn in ((0.0, 0), (14.0, 1), (28.0, 0))
    ]
    outcome = played(a_trace({f"m{i}": facts for i in range(5)}, times))
    assert len(outcome.swaps) == len(times) - 1, "each request but the first needs one"
    assert outcome.of().longest == 8.0 + 1.0 + 1.0 + 0.1, "load, stop, release, and the next sample"


def test_a_low_priority_under_load_is_answered_within_max_wait() -> None:
    """The higher priority has moments without a request (reliability G13)."""
    trace, requests = read(str(next(path for path in TRACES if path.stem == "priorities")))
    outcome = play(trace, requests, BUDGET)
    assert outcome.of("batch").longest <= seconds_of(trace.group.max_wait)
    assert outcome.of("assistant").longest < outcome.of("batch").longest


def test_models_that_have_waited_max_wait_do_not_make_each_other_leave_as_soon_as_they_are_ready() -> None:
    """Each answers for as long as it took to load, so that a short maxWait makes no wait longer than first come's."""
    facts = {"memory_mb": 14_000, "load_seconds": 8.0, "service_seconds": 3.0}
    trace = a_trace({f"m{i}": facts for i in range(5)}, [(3.0 * i, f"m{i * 7 % 5}") for i in range(100)])
    trace = msgspec.structs.replace(trace, group=TraceGroup(max_wait="20s", min_stay="10m"))
    outcome = played(trace)
    turns = [span.end - span.begin for span in outcome.spans if span.step == SERVING]
    assert min(turns[1:-1]) >= 8.0 - 1e-6, "the first made no room"
    assert outcome.of().longest < first_come(trace, requests_of(trace, chance), "first come").of().longest / 2


def test_models_that_fit_together_are_never_swapped() -> None:
    """Each is loaded once, as its first request comes."""
    sizes = {"embedder": 512, "chat": 8_192, "coder": 14_000}
    models: dict[str, dict[str, Any]] = {
        name: {"memory_mb": size, "load_seconds": 5.0} for name, size in sizes.items()
    }
    outcome = played(a_trace(models, [(10.0 * i, name) for i in range(9) for name in models]))
    assert (outcome.swaps, outcome.loads, outcome.without_swap) == ((), 3, 1.0)
    assert outcome.of().longest == pytest.approx(6.0, abs=2.0), (
        "the load, and at most the telemetry of two grants before"
    )


def test_an_idle_model_of_high_priority_leaves_at_once() -> None:
    """A wait is then what the swap itself takes: stop, memory back and seen, load (reliability G14)."""
    models = {
        "high": {"memory_mb": 14_000, "priority": 200, "load_seconds": 5.0, "service_seconds": 2.0},
        "low": {"memory_mb": 14_000, "priority": 50, "load_seconds": 5.0, "service_seconds": 2.0},
    }
    outcome = played(a_trace(models, [(0.0, "high"), (60.0, "low")]))
    assert outcome.of("low").longest == pytest.approx(8.0, abs=1.0)
    assert [one.swapped for one in outcome.served] == [False, True]


def test_a_request_longer_than_the_drain_is_cut_for_a_higher_priority() -> None:
    """And counted."""
    models = {
        "long": {"memory_mb": 14_000, "priority": 50, "load_seconds": 1.0, "service_seconds": 300.0},
        "high": {"memory_mb": 14_000, "priority": 200, "load_seconds": 1.0, "service_seconds": 1.0},
    }
    outcome = played(a_trace(models, [(0.0, "long"), (20.0, "high")]))
    assert [(one.model, one.cut) for one in outcome.served] == [("long", True), ("high", False)]
    assert outcome.served[0].ended == pytest.approx(50.0, abs=0.1), "30 s of drain"


def test_what_is_never_answered_is_counted() -> None:
    """Beside an always-on Model of higher priority, where one Model holds the card at a time."""
    models: dict[str, dict[str, Any]] = {
        "pinned": {"memory_mb": 512, "priority": 200, "always_on": True},
        "chat": {"memory_mb": 8_192},
    }
    trace = a_trace(models, [(30.0, "chat"), (31.0, "pinned")])
    assert played(trace, ONE_AT_A_TIME).unanswered == 1
    assert played(trace).unanswered == 0


def test_a_model_leaves_when_it_was_idle_for_its_timeout() -> None:
    """The reaper's own decision."""
    models: dict[str, dict[str, Any]] = {
        "a": {"memory_mb": 8_000, "idle_timeout": "1m", "load_seconds": 5.0},
        "b": {"memory_mb": 8_000},
    }
    outcome = played(a_trace(models, [(0.0, "a"), (300.0, "b")]))
    span = ready(outcome, "a")[0]
    assert span.end - span.begin == pytest.approx(65.0, abs=0.1), "an answer of 5 s, and a minute"


def test_first_come_serves_in_the_order_of_arrival() -> None:
    """By hand: loads of 10 s, answers of 5 s, two seconds until an engine has left."""
    models = {"a": {"memory_mb": 14_000}, "b": {"memory_mb": 14_000}}
    trace = a_trace(models, [(0.0, "a"), (1.0, "b"), (2.0, "a"), (100.0, "a")])
    outcome = first_come(trace, requests_of(trace, chance), "first come")
    assert [one.started for one in outcome.served] == [10.0, 27.0, 44.0, 100.0]
    assert [one.swapped for one in outcome.served] == [False, True, True, False]
    assert outcome.swaps == (17.0, 34.0)
    assert peak_mb(outcome) == 14_000


def test_first_come_answers_as_many_at_once_as_the_engine_can() -> None:
    """The third waits for the first of two."""
    trace = a_trace({"a": {"memory_mb": 100, "parallel": 2}}, [(0.0, "a"), (11.0, "a"), (12.0, "a")])
    outcome = first_come(trace, requests_of(trace, chance), "first come")
    assert [one.started for one in outcome.served] == [10.0, 11.0, 15.0]


def test_arrivals_are_drawn_at_their_rate_and_the_same_every_time() -> None:
    """Within five standard deviations of 1,000."""
    drawn = Arrivals(model="a", start="1h", until="11h", per_hour=100.0)
    trace = msgspec.structs.replace(a_trace({"a": {"memory_mb": 100}}, []), arrivals=(drawn,))
    requests = requests_of(trace, chance)
    assert requests == requests_of(trace, chance)
    assert requests != requests_of(msgspec.structs.replace(trace, seed=1), chance)
    assert 840 < len(requests) < 1160
    assert all(3600 <= request.at < 11 * 3600 for request in requests)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arrivals": ()}, "it has no arrivals"),
        ({"arrivals": (Arrivals(model="b", at=1.0),)}, "arrivals name b, which is not under `models`"),
        ({"arrivals": (Arrivals(model="a"),)}, "arrivals of a need `at`, or `perHour` and `until`"),
        ({"arrivals": (Arrivals(model="a", at="soon"),)}, "'soon' is not a duration"),
        ({"card": Card(memory_mb=8_000)}, "a needs 8000 MiB, and the card has 7488 MiB to give"),
        ({"group": TraceGroup(min_stay="x")}, "'x' is not a duration"),
        ({"models": (TraceModel(name="a", memory_mb=1),) * 2}, "two Models have the name a"),
    ],
)
def test_a_trace_that_cannot_be_replayed_says_why(change: dict[str, Any], words: str) -> None:
    """One sentence each."""
    trace = a_trace({"a": {"memory_mb": 8_000}}, [(0.0, "a")])
    with pytest.raises(TraceError, match=words):
        requests_of(msgspec.structs.replace(trace, **change), chance)


def test_waits_are_the_smallest_values_that_so_many_are_not_above() -> None:
    """Of 1 to 100 the median is 50 and the 95th percentile 95."""
    waits = waits_of([float(wait) for wait in range(100, 0, -1)])
    assert (waits.median, waits.p95, waits.longest, waits.mean, waits.late) == (50.0, 95.0, 100.0, 50.5, 40)
    assert waits_of([]).count == 0
