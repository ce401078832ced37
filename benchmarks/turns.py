"""Taking turns on one card: how long requests wait, and how often Models are swapped, against first come, first served.

The traces of examples/traces, and five Models of which only one fits, at three loads: the share of the time that serving them in the order of their
arrival would take. In virtual time, so that a run says the same every time. The goals are a mean wait of at most 0.5 of first come's at
medium load, and no longest wait above first come's.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from flexinfer.api.sharedgroup import BUDGET, ONE_AT_A_TIME
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


def condition(name: str, outcomes: Sequence[Outcome], peer: Outcome) -> str:
    """Return whether the goals are met by the better mode."""
    best = min(outcomes, key=lambda outcome: outcome.of().mean).of()
    ratio, longest = best.mean / peer.of().mean, best.longest / peer.of().longest
    mean = (
        ""
        if name != GOAL_LOAD
        else f"mean {'met' if ratio <= GOAL else f'missed ({ratio:.2f}, goal {GOAL})'}, "
    )
    return f"  goals: {mean}longest wait {'met' if longest <= 1.0 else f'missed ({longest:.2f})'}"


def main() -> None:
    """Print the table, and whether the goals are met."""
    for name, trace, requests in traces():
        peer = first_come(trace, requests, FIRST_COME)
        outcomes = [play(with_mode(trace, mode), requests, mode) for mode in (BUDGET, ONE_AT_A_TIME)]
        print(f"{name}: {len(requests)} requests, {len(trace.models)} Models")
        for outcome in (*outcomes, peer):
            print(row(outcome.policy, outcome, peer))
        print(condition(name, outcomes, peer), flush=True)


if __name__ == "__main__":
    main()
