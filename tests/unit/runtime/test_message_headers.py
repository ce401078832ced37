"""The headers of messages."""

import msgspec
import pytest

from flexinfer.events import events
from flexinfer.runtime.nats import message_headers

STEP = events.HistoryRecorded(
    namespace="default",
    name="a",
    uid="u",
    service="launcher",
    step="Ready=True",
    at="12:00:00.000",
    version=7,
)


def test_a_step_that_is_published_twice_has_one_id() -> None:
    """The stream keeps it once, whenever it was written."""
    again = msgspec.structs.replace(STEP, at="12:00:01.500")
    assert (
        message_headers.of_event(STEP)[message_headers.ID]
        == message_headers.of_event(again)[message_headers.ID]
    )


@pytest.mark.parametrize(
    "other", [{"version": 9}, {"step": "Ready=False"}, {"service": "reaper"}, {"uid": "v"}]
)
def test_the_same_step_of_another_start_has_another_id(other: dict[str, object]) -> None:
    """Each start is written as a later version of the Model."""
    another = msgspec.structs.replace(STEP, **other)
    assert (
        message_headers.of_event(STEP)[message_headers.ID]
        != message_headers.of_event(another)[message_headers.ID]
    )


def test_state_has_no_id() -> None:
    """De-duplication is per stream: an id on two subjects, or a republish after a loss, would be dropped."""
    assert message_headers.ID not in message_headers.of_event(events.NodeDeleted(name="a"))
