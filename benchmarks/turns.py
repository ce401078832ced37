"""Taking turns on one card: how long requests wait, and how often Models are swapped, against first come, first served.

The traces of examples/traces, and five Models of which only one fits, at three loads: the share of the time that serving them in the order of their
arrival would take. In virtual time, so that a run says the same every time. The goals are a mean wait of at most 0.5 of first come's at
medium load, and no longest wait above first come's.

The first is not within reach at this load. Without a bound on how long the others wait, serving the requests for the loaded Model together and first, then
the oldest, comes to 0.94, 0.71 and 0.32 of first come's at low, medium and high load (`loaded first`, printed beside each): with five Models and a card that is busy for
0.6 of the time there is mostly nothing to serve together, and 308 of 395 requests need a swap even so. The arbiter comes to 0.96 at medium load: an idle
holder that others left for stays up to `minStay` for a Model that has left less than that ago, so that two which are in demand by turns do not load without end: ping-pong is
0.04 with it and 1.01 with 5 s. A shorter `minStay` does not help here: 0.95 with 5 s, with a longer longest wait, and 1.70 with none.
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
_LOAD_SECONDS, _SERVICE_SECONDS, _HOURS = (4.0, 6.0, 8.0, 10.0, 12.0), 3.0, 2
_OVERHEAD_SECONDS = 2.0
"""Until an engine has stopped and its memory is back."""


def five_models(load: float) -> Trace:
    """Return five Models of which only one fits, each with the same rate, at a load."""
    swap = sum(_LOAD_SECONDS) / len(_LOAD_SECONDS) + _OVERHEAD_SECONDS
    one = swap * (1 - 1 / len(_LOAD_SECONDS)) + _SERVICE_SECONDS
    rate = 3600.0 * load / one / len(_LOAD_SECONDS)
    models = tuple(
        TraceModel(
            name=f"model-{i}", memory_mb=20_000, load_seconds=load_seconds, service_seconds=_SERVICE_SECONDS
        )
        for i, load_seconds in enumerate(_LOAD_SECONDS)
    )
    arrivals = tuple(Arrivals(model=model.name, until=3600.0 * _HOURS, per_hour=rate) for model in models)
    return Trace(card=Card(memory_mb=24_576), models=models, arrivals=arrivals)


def traces() -> Iterator[tuple[str, Trace, tuple[Request, ...]]]:
    """Yield each trace with its name and its requests."""
    for path in sorted(TRACES.glob("*.yaml")):
        yield (path.stem, *read(str(path)))
    for name, load in LOADS.items():
        trace = five_models(load)
        yield f"five Models, {name} load", trace, requests_of(trace, chance)


def row(policy: str, outcome: Outcome, peer: Outcome) -> str:
    """Return one line: mean and longest wait and swaps, each with its ratio to first come's, and the share without a swap."""
    waits, its = outcome.of(), peer.of()
    swaps = f"{len(outcome.swaps):6} ({len(outcome.swaps) / max(1, len(peer.swaps)):4.2f})"
    return (
        f"  {policy:12} mean {waits.mean:6.1f}s ({waits.mean / its.mean:4.2f})  longest {waits.longest:7.1f}s "
        f"({waits.longest / its.longest:4.2f})  swaps {swaps}  without a swap {outcome.without_swap:6.1%}"
    )


def loaded_first(trace: Trace, requests: Sequence[Request]) -> tuple[float, float, int]:
    """Return mean and longest wait and swaps if all requests for the loaded Model are served at once and first, and then the oldest's Model is loaded."""
    loads = {model.name: model.load_seconds + _OVERHEAD_SECONDS for model in trace.models}
    rest = deque(sorted((request.at, request.model) for request in requests))
    waiting, waits = list[tuple[float, str]](), list[float]()
    now, loaded, swaps = 0.0, "", 0
    while rest or waiting:
        now = now if waiting else max(now, rest[0][0])
        while rest and rest[0][0] <= now:
            waiting.append(rest.popleft())
        served = [one for one in waiting if one[1] == loaded]
        if not served:
            loaded, swaps = waiting[0][1], swaps + 1
            now += loads[loaded]
            continue
        waits += [now - at for at, _ in served]
        waiting = [one for one in waiting if one[1] != loaded]
        now += _SERVICE_SECONDS
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
        if name.startswith("five Models"):
            print(limit(trace, requests, peer))
        print(goals(name, trace, outcomes[0], peer), flush=True)


if __name__ == "__main__":
    main()
