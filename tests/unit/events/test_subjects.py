"""Subjects: an encoding of names that is injective, reversible and free of wildcards."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.events import events, subjects
from tests.builders import a_group, a_lease, a_model

names = st.text(max_size=40)


@given(names)
def test_a_name_comes_back_from_its_part_of_a_subject(name: str) -> None:
    """Groups and nodes may have any name."""
    assert subjects.decode(subjects.encode(name)) == name


@given(names, names)
def test_two_names_never_share_a_subject(one: str, other: str) -> None:
    """Injective: `b.status` never lands on the subject of `b`."""
    assert (subjects.encode(one) == subjects.encode(other)) == (one == other)


@given(names)
def test_a_name_is_one_plain_part_of_a_subject(name: str) -> None:
    """No dot, no wildcard, no space, never empty."""
    encoded = subjects.encode(name)
    assert encoded
    assert not set(encoded) & set(".*> \t\r\n")


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (events.ModelObserved(model=a_model("a")), "flexinfer.model.default.a"),
        (events.ModelDeleted(namespace="x", name="a.b", uid="u"), "flexinfer.model.x.a_2eb"),
        (events.WorkloadObserved(namespace="x", name="a"), "flexinfer.workload.x.a"),
        (events.GroupObserved(group=a_group(name="a.b")), "flexinfer.group.default.a_2eb"),
        (events.GroupDeleted(namespace="x", name="g", uid="u"), "flexinfer.group.x.g"),
        (events.LeaseObserved(lease=a_lease("a.b")), "flexinfer.lease.default.a_2eb"),
        (events.LeaseDeleted(namespace="x", name="l", uid="u"), "flexinfer.lease.x.l"),
        (events.NodeDeleted(name="n.local"), "flexinfer.node.n_2elocal"),
        (events.GpusObserved(node="n", boot="b", sample=1), "flexinfer.gpu.n"),
        (events.ProxyObserved(proxy="p"), "flexinfer.activity.p"),
        (events.WakeRequested(namespace="x", name="a", uid="u"), "flexinfer.wake.x.a"),
        (
            events.StatusChanged(owner="placer", namespace="x", name="a", uid="u", version=1),
            "flexinfer.changed.placer.x.a",
        ),
        (events.EngineReady(namespace="x", name="a", uid="u"), "flexinfer.ready.x.a"),
        (
            events.DownloadObserved(namespace="x", name="a", uid="u", job="j", bytes=1, total_bytes=2),
            "flexinfer.download.x.a",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_event_has_the_subject_of_the_contract(event: events.AnyEvent, subject: str) -> None:
    """DESIGN 4 names them."""
    assert subjects.subject_of(event) == subject


def test_an_event_that_is_never_published_has_no_subject() -> None:
    """A Model of a restored API server is applied by the component that read it; the watcher publishes it."""
    with pytest.raises(TypeError, match="ModelRestored is never published"):
        subjects.subject_of(events.ModelRestored(model=a_model("a")))
