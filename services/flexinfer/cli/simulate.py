"""`flexinfer simulate --trace FILE`: how a card would be shared, replayed in virtual time.

The arbiter's and the reaper's own decisions on the requests of the file, beside one Model at a time and beside first come, first served.
Nothing else is needed: no cluster, no GPU.
"""

import argparse
import importlib
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import yaml

from flexinfer.api.sharedgroup import ONE_AT_A_TIME
from flexinfer.cli.errors import CommandError
from flexinfer.cli.replay.first_come import first_come
from flexinfer.cli.replay.play import play, with_mode
from flexinfer.cli.replay.results import Outcome
from flexinfer.cli.replay.table import lines
from flexinfer.cli.replay.trace import Request, Trace, TraceError, requests_of

FIRST_COME = "first come"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the trace and the drawing."""
    parser.add_argument(
        "--trace", required=True, metavar="FILE", help="YAML or JSONL with a card, Models and arrivals"
    )
    parser.add_argument(
        "--plot", metavar="OUT.svg", help="draw which Model held the card when (.svg, .png or .pdf)"
    )


def run(options: argparse.Namespace) -> int:
    """Print what the replays came to; the exit status is 0. Raises CommandError."""
    plot = _plotting() if options.plot else None
    trace, requests = read(options.trace)
    outcomes = list(replayed(trace, requests))
    print("\n".join(lines(trace, requests, outcomes)))
    if plot is not None:
        try:
            plot.draw(options.plot, trace, outcomes)
        except (OSError, ValueError) as error:
            raise CommandError(f"{options.plot} cannot be drawn: {error}") from error
        print(f"\n{options.plot} shows which Model held the card when")
    return 0


def read(filename: str) -> tuple[Trace, tuple[Request, ...]]:
    """Return the trace of a file and its requests. Raises CommandError if it is none."""
    try:
        trace = msgspec.convert(_document(filename), Trace)
        return trace, requests_of(trace, chance)
    except OSError as error:
        raise CommandError(f"{filename} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandError(f"{filename} is not YAML: {' '.join(str(error).split())}") from error
    except (msgspec.DecodeError, msgspec.ValidationError, TraceError) as error:
        raise CommandError(f"{filename} is not a trace: {error}") from error


def chance(seed: str) -> Callable[[], float]:
    """Return what draws the numbers of a seed."""
    return random.Random(seed).random  # noqa: S311 - arrivals that are the same in every run


def _document(filename: str) -> object:
    """Return a file as one object: of JSONL the first line, with the arrivals of the others."""
    text = Path(filename).read_text()
    if not filename.endswith(".jsonl"):
        return yaml.safe_load(text)
    head, *arrivals = [msgspec.json.decode(line) for line in text.splitlines() if line.strip()] or [None]
    if isinstance(head, dict):
        head["arrivals"] = [*head.get("arrivals", []), *arrivals]
    return head


def replayed(trace: Trace, requests: Sequence[Request]) -> Iterator[Outcome]:
    """Yield what becomes of the requests: under the mode of the trace's group, one Model at a time, and first come, first served."""
    for mode in dict.fromkeys((trace.group.mode, ONE_AT_A_TIME)):
        yield play(with_mode(trace, mode), requests, mode)
    yield first_come(trace, requests, FIRST_COME)


def _plotting() -> ModuleType:
    """Return what draws. Raises CommandError if matplotlib is not installed."""
    try:
        return importlib.import_module("flexinfer.cli.replay.plot")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "matplotlib":
            raise
        raise CommandError(
            "--plot needs matplotlib, which is not installed: pip install 'flexinfer[plot]'"
        ) from error
