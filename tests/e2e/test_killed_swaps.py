"""A swap whose processes are killed: at each named step of it, the arbiter, the launcher, a proxy, the watcher and nats-server.

The group serves again by itself, streams are finished whole, and the simulated card never holds more than its budget. `make test` kills one
process a step, in turn; `make kills` every one at every step.
"""

import os
import time
from collections.abc import Iterator

import pytest

from tests.instance import until
from tests.patience import patient
from tests.swaps.group import (
    DEADLINE,
    MEMBERS,
    MEMORY_MB,
    RESERVE_MB,
    TOTAL_MB,
    Group,
    Stream,
    kill,
    two_on_one_card,
)

pytestmark = pytest.mark.e2e
PROCESSES = ("arbiter", "launcher", "proxy", "watcher", "nats")
STEPS = (
    ("comer", "Queued"),
    ("leaver", "Releasing"),
    ("leaver", "Ready=Draining"),
    ("leaver", "Ready=Stopped"),
    ("leaver", "Stopped"),
    ("leaver", "Freed"),
    ("comer", "Granted"),
    ("comer", "Opened"),
    ("comer", "Ready=Loading"),
    ("comer", "Ready=Ready"),
)
"""Who of the two comes to a step, and the step, in the order of a swap."""
EVERY = [(*step, process) for step in STEPS for process in PROCESSES]
IN_TURN = [(*step, PROCESSES[(3 * number + 3) % len(PROCESSES)]) for number, step in enumerate(STEPS)]
KILLS = EVERY if os.environ.get("FLEXINFER_KILLS") else IN_TURN
WORDS = 20


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory, api: str) -> Iterator[Group]:
    """Return the group, for all kills."""
    if api != "local":
        pytest.skip("simulated GPUs need the local API")
    with two_on_one_card(tmp_path_factory.mktemp("instance")) as group:
        yield group


@pytest.mark.parametrize(("who", "step", "process"), KILLS, ids=lambda part: part)
def test_a_swap_ends_well_whatever_is_killed_at_any_of_its_steps(
    group: Group, who: str, step: str, process: str
) -> None:
    """And no stream is cut but those that went through a proxy which was killed."""
    until(group.healthy, DEADLINE, "every process runs")
    leaver = group.holder()
    [comer] = set(MEMBERS) - {leaver}
    began, pid = time.monotonic(), group.rows()[process].pid
    assert pid is not None
    stream = Stream(group, leaver, WORDS)
    assert stream.first.wait(patient(DEADLINE)), f"{leaver} answers"
    group.steps.at(leaver if who == "leaver" else comer, step, lambda: kill(pid))
    asked = Stream(group, comer, 1)
    until(lambda: group.steps.acted, DEADLINE, f"{who} is {step}: {group.steps.since(began)}")
    until(lambda: stream.ended() and asked.ended(), DEADLINE, "both requests have ended")
    group.serve(comer)
    if process != "proxy":
        assert (stream.outcome, asked.outcome) == ("whole", "whole")
    assert not group.blocked()
    assert MEMORY_MB <= group.card.most_mb <= TOTAL_MB - RESERVE_MB, group.steps.since(began)
