"""What replays of one trace came to, side by side, as lines. Pure."""

from collections.abc import Callable, Iterator, Sequence

from flexinfer.cli.replay.results import COLD_START_SECONDS, Outcome, Waits
from flexinfer.cli.replay.trace import Request, Trace

_LABEL, _COLUMN = 24, 24


def lines(trace: Trace, requests: Sequence[Request], outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Yield the trace in one line, and the outcomes beside each other."""
    hours = requests[-1].at / 3600.0
    group = trace.group
    yield (
        f"{len(requests)} requests in {hours:.1f} h for {len(trace.models)} Models; a card of {trace.card.memory_mb} MiB, "
        f"{trace.budget_mb} to give; minStay {group.min_stay}, maxWait {group.max_wait}"
    )
    yield ""
    yield _row("", [outcome.policy for outcome in outcomes])
    yield _row("swaps", [str(len(outcome.swaps)) for outcome in outcomes])
    yield _row("engine starts", [str(outcome.loads) for outcome in outcomes])
    yield _row("served without a swap", [f"{outcome.without_swap:.1%}" for outcome in outcomes])
    yield _row("mean wait", [_seconds(outcome.of().mean) for outcome in outcomes])
    yield _row(f"waited over {COLD_START_SECONDS:.0f} s", [str(outcome.of().late) for outcome in outcomes])
    yield from _if_any("cut at the drain", outcomes, lambda outcome: sum(one.cut for one in outcome.served))
    yield from _if_any("never answered", outcomes, lambda outcome: outcome.unanswered)
    yield ""
    yield _row("wait", [f"{'median':>8}{'p95':>8}{'longest':>8}"] * len(outcomes))
    yield _row("all", [_waits(outcome.of()) for outcome in outcomes])
    for model in trace.models:
        yield _row(f"  {model.name}", [_waits(outcome.of(model.name)) for outcome in outcomes])
    yield ""
    yield "longest wait by priority"
    for priority in sorted({model.priority for model in trace.models}, reverse=True):
        names = [model.name for model in trace.models if model.priority == priority]
        yield _row(f"  {priority}", [_seconds(outcome.of(*names).longest) for outcome in outcomes])


def _if_any(label: str, outcomes: Sequence[Outcome], count: Callable[[Outcome], int]) -> Iterator[str]:
    """Yield a row of counts unless all are 0."""
    counts = [count(outcome) for outcome in outcomes]
    if any(counts):
        yield _row(label, [str(one) for one in counts])


def _row(label: str, cells: Sequence[str]) -> str:
    return f"{label:<{_LABEL}}{''.join(f'{cell:>{_COLUMN}}' for cell in cells)}".rstrip()


def _waits(waits: Waits) -> str:
    if not waits.count:
        return "-"
    return "".join(f"{_seconds(one):>8}" for one in (waits.median, waits.p95, waits.longest))


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f}s"
