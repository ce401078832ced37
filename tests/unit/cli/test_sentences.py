"""Events as sentences: readable, one line, harmless to a terminal."""

from typing import Any

import pytest

from flexinfer.cli.sentences import raw, sentence
from flexinfer.events import events
from flexinfer.events.events import AnyEvent
from flexinfer.events.nodes import Device, NodeFacts
from flexinfer.events.workload import PodFacts
from tests.builders import a_group, a_holder

WHO: dict[str, Any] = {"namespace": "default", "name": "a"}


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            events.HistoryRecorded(
                **WHO,
                uid="u",
                service="launcher",
                step="Ready=True",
                reason="Ready",
                message="up",
                seconds=0.5,
            ),
            "default/a: launcher Ready=True (Ready), took 0.50s: up",
        ),
        (events.WakeRequested(**WHO, uid="u"), "default/a: a request is waiting for a cold start"),
        (events.EngineReady(**WHO, uid="u"), "default/a: engine ready"),
        (
            events.DownloadObserved(
                **WHO,
                uid="u",
                job="j",
                bytes=10**9,
                total_bytes=4 * 10**9,
                bytes_per_second=25 * 10**6,
                file="m.gguf",
            ),
            "default/a: download [#####...............] 25% of 4.0 GB, 2m left, 25.0 MB/s, m.gguf",
        ),
        (
            events.StatusChanged(owner="placer", **WHO, uid="u", version=7),
            "default/a: status written by the placer (version 7)",
        ),
        (events.ProxyObserved(proxy="p", final=True), "proxy p shut down"),
        (
            events.ActivityObserved(proxy="p", **WHO, uid="u", idle_seconds=1.25, in_flight=2, waiting=1),
            "default/a at proxy p: 2 in flight, 1 queued, last request 1.2s ago",
        ),
        (
            events.GpusObserved(
                node="n",
                boot="b",
                sample=1,
                devices=(Device(uuid="x", name="RTX", free_mb=10000, total_mb=24000),),
            ),
            "node n: RTX 10,000 of 24,000 MB free",
        ),
        (events.GpusObserved(node="n", boot="b", sample=1, message="no driver"), "node n: no driver"),
        (events.NodeObserved(name="n", node=NodeFacts(name="n", ready="True")), "node n is ready"),
        (events.NodeDeleted(name="n"), "node n deleted"),
        (
            events.GroupObserved(group=a_group(a_holder("b", turn=4))),
            "group default/card: b holds turn 4 (Granted)",
        ),
        (
            events.GroupDeleted(namespace="default", name="card", uid="u"),
            "SharedGroup default/card deleted",
        ),
        (events.ModelDeleted(**WHO, uid="u"), "default/a deleted"),
        (
            events.WorkloadObserved(
                **WHO, pods=(PodFacts(name="a-0", uid="p", phase="Running", ready=True),)
            ),
            "default/a has Pod a-0 ready",
        ),
        (
            events.Watermark(stream_created="", counts={"model": 1, "node": 2}, sums={}),
            "state stream holds 1 models, 2 nodes",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_an_event_reads_as_a_sentence(event: AnyEvent, line: str) -> None:
    """Each kind says what it means."""
    assert sentence(event) == line


def test_what_an_engine_says_cannot_steer_the_terminal() -> None:
    """Escape sequences and line ends in a message become spaces."""
    event = events.HistoryRecorded(**WHO, uid="u", service="x", step="y", message="a\x1b[2Jb\nc")
    assert "\x1b" not in sentence(event)
    assert "\n" not in sentence(event)


def test_what_does_not_decode_is_shown_short_and_safe() -> None:
    """Foreign bytes are shown, not obeyed."""
    shown = raw(b"\x1b[2J" + b"x" * 500)
    assert "\x1b" not in shown
    assert len(shown) <= 160
