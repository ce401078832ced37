"""Taking turns on one card: how long requests wait, and how often Models are swapped, against first come, first served.

The traces of examples/traces; five Models of which only one fits, at three loads: the share of the time that serving them in the order of their
arrival would take; and three and eight of them with other arrivals. In virtual time, so that a run says the same every time. The goals are a mean wait
of at most 0.5 of first come's at medium load, and no longest wait above first come's.

The first is not within reach at this load. To serve the requests for the loaded Model first, for however long the others wait, and then to load the
oldest's, comes to 0.96, 0.78 and 0.37 of first come's at low, medium and high load (`loaded first`, printed beside each, which answers one request at a
time as the engines do: all at once it would be 0.71 at medium load). With five Models and a card that is busy for 0.6 of the time there is mostly
nothing to serve together: 304 of 395 requests need a swap even so. The arbiter comes to 0.99, 0.81 and 0.39.

What it takes beyond `loaded first` at medium load, in seconds of the mean wait (15.3 s): 0.1 until the sample by which memory counts as free, and 0.5
because an idle holder stays for a while if it has come back soon, and the Model that waits has left just now (`minStay`; `away_seconds` of
`flexinfer.arbiter.preemption`). Where none stays at all it is 15.4 s here, and ping-pong is swapped more than once in `minStay` (125 times in an hour); where
each stays for `minStay` that others left for it is 17.3 s, and the longest wait at low load is 1.12 of first come's. A shorter `minStay` is no gain at medium
load: with 5 s a holder in use leaves while it has requests that wait, which costs more (0.84, and a longest wait of 1.10) than idle holders that stay.

At low load the second goal depends on the arrivals: two Models that are requested by turns wait for up to `minStay`, where first come swaps at every
request. With the seeds 1 and 2 of `models_at` the longest wait is 1.32 and 1.36 of first come's with three Models, 1.16 and 1.01 with five, 1.06 and
1.15 (1.10 with `loaded first`) with eight; at medium and high load it is 0.28 to 0.97 of it in all of them.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from flexinfer.api.sharedgroup import ONE_AT_A_TIME
from flexinfer.cli.replay.first_come import first_come
from flexinfer.cli.replay.play import play, with_mode
from flexinfer.cli.replay.results import Outcome
from flexinfer.cli.replay.trace import Arrivals, Card, Request, Trace, TraceModel, requests_of
from flexinfer.cli.simulate import FIRST_COME, chance, read

TRACES = Path(__file__).resolve().parents[1] / "examples" / "traces"
LOADS = {"low": 0.3, "medium": 0.6, "high": 0.9}
"""Name -> share of the time in which one card would be busy if each request were served as it comes."""
GOAL, GOAL_LOAD = 0.5, "five Models, medium load"
"""The mean wait as a part of first come's, and where it is the goal."""
SHORT_STAY = "5s"
"""A minStay to compare the default with."""
OTHERS = (("three Models", 3, 1), ("eight Models", 8, 2))
"""The same at medium load with fewer and more Models, and other arrivals: name, how many, seed."""
_LOAD_SECONDS, _SERVICE_SECONDS, _HOURS = (4.0, 12.0), 3.0, 2
"""Of the fastest and the slowest of the Models, those between evenly spread; of a request; of arrivals."""
_OVERHEAD_SECONDS = 2.0
"""Until an engine has stopped and its memory is back."""


def models_at(load: float, count: int, seed: int = 0) -> Trace:
    """Return Models of which only one fits, each with the same rate, at a load."""
    fastest, slowest = _LOAD_SECONDS
    swap = (fastest + slowest) / 2 + _OVERHEAD_SECONDS
    one = swap * (1 - 1 / count) + _SERVICE_SECONDS
    rate = 3600.0 * load / one / count
    models = tuple(
        TraceModel(
            name=f"model-{i}",
            memory_mb=20_000,
            load_seconds=fastest + (slowest - fastest) * i / (count - 1),
            service_seconds=_SERVICE_SECONDS,
        )
        for i in range(count)
    )
    arrivals = tuple(Arrivals(model=model.name, until=3600.0 * _HOURS, per_hour=rate) for model in models)
    return Trace(card=Card(memory_mb=24_576), models=models, seed=seed, arrivals=arrivals)


def traces() -> Iterator[tuple[str, Trace, tuple[Request, ...]]]:
    """Yield each trace with its name and its requests."""
    for path in sorted(TRACES.glob("*.yaml")):
        yield (path.stem, *read(str(path)))
    for name, load in LOADS.items():
        trace = models_at(load, 5)
        yield f"five Models, {name} load", trace, requests_of(trace, chance)
    for name, count, seed in OTHERS:
        trace = models_at(LOADS["medium"], count, seed)
        yield f"{name}, medium load", trace, requests_of(trace, chance)


def row(policy: str, outcome: Outcome, peer: Outcome) -> str:
    """Return one line: mean and longest wait and swaps, each with its ratio to first come's, and the share without a swap."""
    waits, its = outcome.of(), peer.of()
    swaps = f"{len(outcome.swaps):6} ({len(outcome.swaps) / max(1, len(peer.swaps)):4.2f})"
    return (
        f"  {policy:12} mean {waits.mean:6.1f}s ({waits.mean / its.mean:4.2f})  longest {waits.longest:7.1f}s "
        f"({waits.longest / its.longest:4.2f})  swaps {swaps}  without a swap {outcome.without_swap:6.1%}"
    )


def loaded_first(trace: Trace, requests: Sequence[Request]) -> tuple[float, float, int]:
    """Return mean and longest wait and swaps if the requests for the loaded Model are served first, one after another, and then the oldest's Model is loaded."""
    loads = {model.name: model.load_seconds + _OVERHEAD_SECONDS for model in trace.models}
    rest = deque(sorted((one.at, one.model, one.service_seconds) for one in requests))
    waiting, waits = list[tuple[float, str, float]](), list[float]()
    now, loaded, swaps = 0.0, "", 0
    while rest or waiting:
        now = now if waiting else max(now, rest[0][0])
        while rest and rest[0][0] <= now:
            waiting.append(rest.popleft())
        request = next((one for one in waiting if one[1] == loaded), None)
        if request is None:
            loaded, swaps = waiting[0][1], swaps + 1
            now += loads[loaded]
            continue
        waiting.remove(request)
        waits.append(now - request[0])
        now += request[2]
    return sum(waits) / len(waits), max(waits), swaps


def limit(trace: Trace, requests: Sequence[Request], peer: Outcome) -> str:
    """Return the line of `loaded_first`."""
    mean, longest, swaps = loaded_first(trace, requests)
    its = peer.of()
    return (
        f"  loaded first mean {mean:6.1f}s ({mean / its.mean:4.2f})  longest {longest:7.1f}s "
        f"({longest / its.longest:4.2f})  swaps {swaps:6} ({swaps / max(1, len(peer.swaps)):4.2f})"
    )


def goals(name: str, trace: Trace, outcome: Outcome, peer: Outcome) -> str:
    """Return whether the goals are met under the trace's own settings; a lower priority has none: it is to wait longer."""
    if len({model.priority for model in trace.models}) > 1:
        return "  goals: none, the priorities differ"
    ratio, longest = outcome.of().mean / peer.of().mean, outcome.of().longest / peer.of().longest
    mean = "" if name != GOAL_LOAD else f"mean {_met(ratio, GOAL)}, "
    return f"  goals: {mean}longest wait {_met(longest, 1.0)}"


def _met(ratio: float, goal: float) -> str:
    return "met" if ratio <= goal else f"missed ({ratio:.2f}, goal {goal})"


def policies(trace: Trace) -> Iterator[tuple[str, Trace]]:
    """Yield the settings to compare, the trace's own first."""
    sizes = sorted(model.memory_mb for model in trace.models)
    if sum(sizes[:2]) <= trace.budget_mb:  # else the budget is one at a time too
        yield trace.group.mode, trace
    yield ONE_AT_A_TIME, with_mode(trace, ONE_AT_A_TIME)
    group = msgspec.structs.replace(trace.group, min_stay=SHORT_STAY)
    yield f"minStay {SHORT_STAY}", msgspec.structs.replace(trace, group=group)


def main() -> None:
    """Print the table, and whether the goals are met."""
    for name, trace, requests in traces():
        peer = first_come(trace, requests, FIRST_COME)
        outcomes = [play(settings, requests, policy) for policy, settings in policies(trace)]
        print(f"{name}: {len(requests)} requests, {len(trace.models)} Models, minStay {trace.group.min_stay}")
        for outcome in (*outcomes, peer):
            print(row(outcome.policy, outcome, peer))
        if " Models, " in name:
            print(limit(trace, requests, peer))
        print(goals(name, trace, outcomes[0], peer), flush=True)


if __name__ == "__main__":
    main()
