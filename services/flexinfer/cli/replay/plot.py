"""A drawing of replays: which Model held memory of the card when, and which requests waited. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from flexinfer.cli.replay.results import LEAVING, LOADING, SERVING, Outcome
from flexinfer.cli.replay.trace import Trace

_COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb")
"""Paul Tol's bright scheme, told apart also by the colour-blind (https://personal.sron.nl/~pault/)."""
_WAITING = "#222222"
_LANE, _WAIT_HEIGHT = 0.62, 0.14
_LIGHT, _FULL = 0.35, 1.0
_UNITS = ((3 * 3600.0, 3600.0, "hours"), (600.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))
"""From which length of a trace a unit is used, its seconds, and its name."""


def draw(filename: str, trace: Trace, outcomes: Sequence[Outcome]) -> None:
    """Draw the outcomes one below the other, a lane for each Model. Raises OSError, and ValueError for a format that is not known."""
    end = max((span.end for outcome in outcomes for span in outcome.spans), default=1.0)
    _, unit, name = next(one for one in _UNITS if end >= one[0])
    height = 1.0 + len(outcomes) * (0.8 + 0.42 * len(trace.models))
    with rc_context({"svg.hashsalt": "flexinfer", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(11, height), layout="constrained")
        for axes, outcome in zip(
            figure.subplots(len(outcomes), 1, sharex=True, squeeze=False).flat, outcomes, strict=True
        ):
            _panel(axes, trace, outcome, unit)
        axes.set_xlabel(f"{name} from the beginning of the trace")
        axes.set_xlim(0, end / unit)
        figure.legend(handles=_legend(), loc="outside upper right", ncols=4, frameon=False)
        metadata = {"Date": None} if Path(filename).suffix == ".svg" else None
        figure.savefig(filename, metadata=metadata, dpi=150)


def _panel(axes: Axes, trace: Trace, outcome: Outcome, unit: float) -> None:
    """Draw one replay."""
    waits = outcome.of()
    figures = f"{len(outcome.swaps)} swaps, {outcome.without_swap:.1%} without a swap, longest wait {waits.longest:.0f} s"
    axes.set_title(f"{outcome.policy}: {figures}", loc="left")
    for lane, model in enumerate(trace.models):
        colour = _COLOURS[lane % len(_COLOURS)]
        for step, alpha in ((LOADING, _LIGHT), (SERVING, _FULL), (LEAVING, _LIGHT)):
            bars = [
                (span.begin / unit, (span.end - span.begin) / unit)
                for span in outcome.spans
                if (span.model, span.step) == (model.name, step)
            ]
            hatch = "////" if step == LEAVING else None
            axes.broken_barh(
                bars, (lane - _LANE / 2, _LANE), facecolor=colour, alpha=alpha, hatch=hatch, linewidth=0
            )
        waiting = [
            (one.at / unit, one.wait / unit) for one in outcome.served if one.model == model.name and one.wait
        ]
        axes.broken_barh(waiting, (lane + _LANE / 2, _WAIT_HEIGHT), color=_WAITING, linewidth=0.6)
    axes.set_yticks(range(len(trace.models)), [f"{m.name} ({m.memory_mb} MiB)" for m in trace.models])
    axes.set_ylim(len(trace.models) - 0.4, -0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _legend() -> list[Patch]:
    grey = _COLOURS[-1]
    return [
        Patch(facecolor=grey, alpha=_LIGHT, label="loading"),
        Patch(facecolor=grey, label="ready"),
        Patch(facecolor=grey, alpha=_LIGHT, hatch="////", label="leaving"),
        Patch(facecolor=_WAITING, label="a request waits"),
    ]
