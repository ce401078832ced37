"""Taking turns on one card: how long requests wait, and how often Models are swapped, against first come, first served.

The traces of examples/traces, and five Models of which only one fits, at three loads: the share of the time that serving them in the order of their
arrival would take. In virtual time, so that a run says the same every time. The goals are a mean wait of at most 0.5 of first come's at
medium load, and no longest wait above first come's.
"""

from collections.abc import Iterator
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
        print(goals(name, trace, outcomes[0], peer), flush=True)


if __name__ == "__main__":
    main()
