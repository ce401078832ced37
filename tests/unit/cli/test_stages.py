"""Stages: phases in the words of a story."""

import os
import sys

import pytest

from flexinfer.api.phase import Phase
from flexinfer.cli.errors import CommandError
from flexinfer.cli.stages import ASLEEP, READY, WAKING, Stages, watched


def test_every_phase_has_a_word_and_a_word_is_told_once() -> None:
    """Pending and Loading are both a model that wakes."""
    told: list[str] = []
    stages = Stages(told.append)
    for phase in (Phase.IDLE, Phase.IDLE, Phase.PENDING, Phase.LOADING, Phase.READY, "", Phase.FAILED):
        stages.see(phase)
    assert told == [ASLEEP, WAKING, READY, "failed"]


def test_a_stage_that_never_comes_is_a_sentence() -> None:
    """Nothing waits for ever."""
    with pytest.raises(CommandError, match="not ready within"):
        Stages(lambda _: None).await_word(READY, 0.01)


def test_stages_follow_what_a_command_prints() -> None:
    """Line by line, while it runs."""
    code = "import time; print('Idle', flush=True); print('Ready', flush=True); time.sleep(60)"
    told: list[str] = []
    stages = Stages(told.append)
    with watched([sys.executable, "-c", code], os.environ, stages):
        stages.await_word(READY, 10)
    assert told == [ASLEEP, READY]
