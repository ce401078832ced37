"""The rules of the sharing protocol are enough, and each of them is needed.

FLEXINFER_PROTOCOL is the length in seconds of the longest run to make; `make test` makes the shortest,
`make protocol` those of CI, `make protocol LONGEST=100` all.
"""

import os
import re
from collections.abc import Callable

import pytest

from tests.protocol.runs import BREAK, HOLD, OVERLAPPING, broken
from tests.protocol.spin import HERE, Result, Run, check, missing_programs

LONGEST = int(os.environ.get("FLEXINFER_PROTOCOL", "0"))
MISSING = missing_programs()
BROKEN = [broken(model, bit) for model, bits in BREAK.items() for bit in bits]
Record = Callable[[str, object], None]

with_spin = pytest.mark.skipif(
    bool(MISSING), reason=f"{' and '.join(MISSING)} not found: apt-get install spin gcc"
)


def _selected(runs: list[Run]) -> list[Run]:
    return [run for run in runs if run.seconds <= LONGEST]


def _record(record_property: Record, run: Run, result: Result) -> None:
    summary = f"protocol: {run}: {result.states:,} states in {result.seconds:.1f} s"
    record_property("measured", f"{summary}{': ' if result.error else ''}{result.error[:60]}")


@pytest.mark.slow
@with_spin
@pytest.mark.parametrize("run", _selected(list(HOLD)), ids=str)
def test_no_history_breaks_the_protocol(run: Run, record_property: Record) -> None:
    """Every state of the configuration is visited."""
    result = check(run)
    assert not result.error
    assert result.complete
    _record(record_property, run, result)


@pytest.mark.slow
@with_spin
@pytest.mark.parametrize("run", _selected(BROKEN), ids=str)
def test_without_one_of_its_rules_the_protocol_breaks(run: Run, record_property: Record) -> None:
    """A counterexample shows what the rule prevents."""
    result = check(run)
    assert result.error
    _record(record_property, run, result)


@pytest.mark.parametrize("model", BREAK)
def test_every_rule_of_a_model_has_its_counterexample(model: str) -> None:
    """Or the reason why it has none."""
    text = (HERE / f"{model}.pml").read_text()
    rules = {int(bit) for bit in re.findall(r"^#define F_\w+ +\(!\(OFF&(\d+)\)\)", text, re.MULTILINE)}
    assert rules == {*BREAK[model], *OVERLAPPING[model]}


@pytest.mark.parametrize("model", BREAK)
def test_every_event_of_a_model_takes_part(model: str) -> None:
    """In a configuration that holds."""
    text = (HERE / f"{model}.pml").read_text()
    events = {int(bit) for bit in re.findall(r"^#define E_\w+ .*EV&(\d+)", text, re.MULTILINE)}
    drawn = [int(n) for run in HOLD if run.model == model for n in re.findall(r"\bEV=(\d+)", run.switches)]
    assert {bit for bit in events if not any(value & bit for value in drawn)} == set()
