"""Stages: the phases as the demo shows them."""

import os
import sys

import pytest

from flexinfer.api.phase import Phase
from flexinfer.cli.errors import CommandError
from flexinfer.cli.stages import IDLE, READY, STARTING, Stages, followed, observed_phase
from tests.patience import patient


def test_every_phase_has_a_stage_and_a_stage_is_reported_once() -> None:
    """Pending and Loading are both a start."""
    reported: list[str] = []
    stages = Stages(reported.append)
    for phase in (Phase.IDLE, Phase.IDLE, Phase.PENDING, Phase.LOADING, Phase.READY, "", Phase.FAILED):
        stages.see(phase)
    assert reported == [IDLE, STARTING, READY, "failed"]


def test_a_stage_that_is_not_reached_is_a_clear_error() -> None:
    """It names the stage, the time and the current stage."""
    with pytest.raises(CommandError, match="not ready within"):
        Stages(lambda _: None).wait_for(READY, 0.01)


def test_stages_follow_what_a_command_prints() -> None:
    """Line by line, while it runs."""
    code = "import time; print('Idle', flush=True); print('Ready', flush=True); time.sleep(60)"
    reported: list[str] = []
    stages = Stages(reported.append)
    with followed([sys.executable, "-c", code], os.environ, lambda line: stages.see(line.strip())):
        stages.wait_for(READY, patient(10))
    assert reported == [IDLE, READY]


@pytest.mark.parametrize(
    ("line", "phase"),
    [
        ("1 \n", ""),
        ('1 [{"type":"Ready","status":"True","reason":"Ready","observedGeneration":1}]\n', Phase.READY),
        ('2 [{"type":"Ready","status":"False","reason":"Loading","observedGeneration":2}]\n', Phase.LOADING),
        ('2 [{"type":"Ready","status":"False","reason":"Draining","observedGeneration":2}]\n', ""),
    ],
)
def test_the_phase_is_derived_from_the_conditions_of_a_line(line: str, phase: str) -> None:
    """A Model without conditions has none, and one that drains is not scaled to zero yet."""
    assert observed_phase(line) == phase
