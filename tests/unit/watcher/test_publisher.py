"""The watermark: readers take the stream for everything there is, so that what it does not hold yet counts as deleted."""

import asyncio

from flexinfer.runtime.kubernetes.api import MODELS
from flexinfer.runtime.nats.connection import NatsUnavailableError
from tests.builders import a_model
from tests.unit.watcher.test_watcher import Scene, play

NAMES = ("a", "b", "c")
SUBJECTS = {f"flexinfer.model.default.{name}" for name in NAMES}


def _three_models(scene: Scene) -> None:
    for name in NAMES:
        scene.cluster.put(MODELS, a_model(name, placement=None))


async def _filled(scene: Scene) -> None:
    """Wait until the stream holds every Model and says so, then forget what was said."""
    await scene.until(lambda: scene.stream.marked and scene.stream.marked[-1] >= SUBJECTS)
    scene.stream.marked.clear()


async def _wipe(scene: Scene) -> None:
    await _filled(scene)
    scene.stream.store.clear()
    scene.stream.mark_suspect()


def test_no_watermark_counts_a_wiped_stream_that_is_being_filled() -> None:
    """Its Models would be taken for deleted by every reader, and requests for them be refused."""

    async def act(scene: Scene) -> None:
        scene.stream.gate = asyncio.Event()
        scene.stream.gate.set()
        await _wipe(scene)
        scene.stream.gate.clear()
        await asyncio.sleep(12)
        assert not scene.stream.marked
        scene.stream.gate.set()
        await scene.until(lambda: scene.stream.marked)
        assert scene.stream.marked[0] >= SUBJECTS

    play(act, _three_models)


def test_no_watermark_follows_a_comparison_that_has_failed() -> None:
    """Whatever was not answered, the next comparison publishes; a watermark before it would only delay it."""

    async def act(scene: Scene) -> None:
        await _wipe(scene)
        scene.stream.faults = [NatsUnavailableError("no answer")]
        await scene.until(lambda: scene.stream.marked)
        assert all(held >= SUBJECTS for held in scene.stream.marked)

    play(act, _three_models)


def test_what_the_stream_refuses_again_and_again_keeps_no_other_from_its_readers() -> None:
    """One Model that is too large for a message costs itself alone."""

    async def act(scene: Scene) -> None:
        scene.stream.refused = {"flexinfer.model.default.b"}
        await scene.until(lambda: scene.stream.marked, within=3)
        assert scene.stream.marked[-1] & SUBJECTS == SUBJECTS - scene.stream.refused
        before = len(scene.stream.marked)
        await asyncio.sleep(10)
        assert before < len(scene.stream.marked) < 60, "neither silent, nor without a pause"

    play(act, _three_models)
