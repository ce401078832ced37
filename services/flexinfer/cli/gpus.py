"""`flexinfer gpus`: the cards of every node, and who holds their memory.

Read from the telemetry that the agents publish; nothing is probed and nothing changes. `--here` probes this machine instead, as its agent
would: the first thing to run where a card is missing.
"""

import argparse
import asyncio
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from flexinfer.agent import look
from flexinfer.cli import reach
from flexinfer.cli.gpu_usage import (
    FOREIGN,
    LEASE,
    MODEL,
    POD,
    RELEASED,
    UNLISTED,
    Card,
    Holder,
    NodeUsage,
    usage,
)
from flexinfer.cli.observed import observed_state
from flexinfer.cli.target import target_arguments
from flexinfer.cli.terminal import print_json
from flexinfer.placer.footprint import source_text

BAR_WIDTH = 40
_FREE, _FOREIGN, _UNLISTED = ".", "#", "~"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_WORDS: Mapping[str, str] = MappingProxyType(
    {
        MODEL: "model",
        POD: "pod",
        LEASE: "lease",
        RELEASED: "process of the released lease",
        FOREIGN: "foreign process",
        UNLISTED: "in use by no process that the driver lists",
    }
)
_UUID_SHOWN = 12


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add --here, -o and --state."""
    parser.add_argument(
        "--here",
        action="store_true",
        help="what the agent's readers see on this machine; needs neither an instance nor a cluster",
    )
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table", help="output format")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print the cards; a machine or an instance without any is no failure. Raises CommandError."""
    if options.here:
        return here(as_json=options.output == "json")
    with reach.nats(options) as server:
        nodes = usage(asyncio.run(observed_state(server)))
    if options.output == "json":
        print_json(nodes)
    else:
        print("\n".join(table(nodes)))
    return 0


def here(*, as_json: bool) -> int:
    """Print what is seen on this machine."""
    report = look.here()
    if as_json:
        print_json(report)
    else:
        print("\n".join(look.lines(report)))
    return 0


def table(nodes: Sequence[NodeUsage]) -> Iterator[str]:
    """Yield the cards as lines: a bar of the memory of each, and a line for each of its holders."""
    if not nodes:
        yield "no node is known: check that the watcher runs (`flexinfer services`, or kubectl get nodes)"
    for node in nodes:
        yield f"{node.node}{f': {node.message}' if node.message else ''}"
        for card in node.cards:
            yield from _card(card)


def _card(card: Card) -> Iterator[str]:
    facts = [
        f"{card.temperature} °C" if card.temperature else "",
        f"{card.power_watts} W",
        f"{card.utilisation} % busy",
        "divided by MIG" if card.mig else "",
    ]
    text = ", ".join(fact for fact in facts if fact)
    yield f"  {card.uuid[:_UUID_SHOWN]}  {card.name} ({card.architecture or card.vendor})  {text}"
    if not card.healthy:
        yield f"    unhealthy: its memory is not known{_errors(card)}"
        return
    marks = _marks(card.holders)
    yield f"    [{bar(card, marks)}]  {card.used_mb} of {card.total_mb} MiB used, {card.free_mb} MiB free{_errors(card)}"
    if not card.processes_known:
        yield "     its driver does not say which processes use memory, and how much of it"
    for mark, holder in zip(marks, card.holders, strict=True):
        yield f"     {mark} {holder.memory_mb:>6} MiB  {_described(holder)}"


def _errors(card: Card) -> str:
    return f"; last error: {card.errors[-1]}" if card.errors else ""


def _described(holder: Holder) -> str:
    text = " ".join(word for word in (_WORDS[holder.kind], holder.name) if word)
    process = f" {holder.process}" if holder.process and holder.kind != FOREIGN else ""
    footprint = f", placed with {holder.footprint_mb} MiB{source_text(holder.footprint_source)}"
    label = f"{text} (pid {holder.pid}{process})" if holder.pid else text
    return f"{label}{footprint if holder.footprint_mb else ''}"


def _marks(holders: Sequence[Holder]) -> list[str]:
    """Return the mark of each holder in the bar: a letter of its own for a Pod, one for all that is foreign."""
    letters = iter(_LETTERS)
    marks = {FOREIGN: _FOREIGN, UNLISTED: _UNLISTED}
    return [marks.get(holder.kind) or next(letters, _LETTERS[-1]) for holder in holders]


def bar(card: Card, marks: Sequence[str]) -> str:
    """Return the memory of a card as a bar of BAR_WIDTH marks; each holder of any memory has at least one."""
    text = ""
    held_mb = 0
    for mark, holder in zip(marks, card.holders, strict=True):
        held_mb += holder.memory_mb
        end = round(BAR_WIDTH * min(1.0, held_mb / max(1, card.total_mb)))
        text += mark * max(end - len(text), 1 if holder.memory_mb else 0)
    return text[:BAR_WIDTH].ljust(BAR_WIDTH, _FREE)
