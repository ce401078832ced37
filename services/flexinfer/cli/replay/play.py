"""A whole replay: the requests of a trace under the policy of its group, or of one holder at a time. Pure."""

from collections.abc import Sequence

import msgspec

from flexinfer.cli.replay.agenda import Agenda, Arrived
from flexinfer.cli.replay.cluster import BEGIN, Cluster
from flexinfer.cli.replay.control import Control
from flexinfer.cli.replay.node import Node
from flexinfer.cli.replay.results import Outcome
from flexinfer.cli.replay.trace import Request, Trace, seconds_of

_ROUNDS = 1000
"""Decisions at one time that each change something: more do not settle."""
_LONGEST_SECONDS = 3600.0
"""How long after the last arrival a replay continues, beyond twice maxWait: what is not answered by then never is, such as beside an always-on
Model that holds the card alone."""


def with_mode(trace: Trace, mode: str) -> Trace:
    """Return a trace whose group has another mode."""
    return msgspec.structs.replace(trace, group=msgspec.structs.replace(trace.group, mode=mode))


def play(trace: Trace, requests: Sequence[Request], policy: str) -> Outcome:
    """Return what happens to the requests, until the last is answered, or for an hour and twice maxWait after it arrived."""
    cluster, agenda = Cluster(trace), Agenda()
    control, node = Control(cluster), Node(trace, cluster, agenda)
    swaps: list[float] = []
    for request in requests:
        agenda.enter(BEGIN + request.at, Arrived(request))
    end = BEGIN + requests[-1].at + _LONGEST_SECONDS + 2 * seconds_of(trace.group.max_wait)
    due = _settle(cluster, control, node)
    while len(node.served) < len(requests):
        at = min((at for at in (agenda.next_at, due) if at is not None), default=end)
        if at >= end:
            break
        cluster.advance(at)
        while agenda.next_at == at:
            node.happen(agenda.take())
        swap_count = len(control.swapped)
        due = _settle(cluster, control, node)
        swaps += [at - BEGIN] * (len(control.swapped) - swap_count)
    node.close()
    answers = tuple(sorted(node.served, key=lambda one: one.number))
    return Outcome(
        policy=policy,
        served=answers,
        unanswered=len(requests) - len(answers),
        spans=tuple(node.spans),
        swaps=tuple(swaps),
        loads=node.loads,
    )


def _settle(cluster: Cluster, control: Control, node: Node) -> float | None:
    """Decide until nothing changes any more; returns when to decide again. Raises RuntimeError if that never is."""
    for _ in range(_ROUNDS):
        before = cluster.state
        due = control.decide()
        node.follow(control.swapped)
        if cluster.state is before:
            return due
    raise RuntimeError(f"decisions at {cluster.now - BEGIN:.1f}s do not settle")
