"""Permissions of the NATS users equal what the components read, hear and publish."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from flexinfer.api.services import CHANGED_RECEIVERS, SERVICES
from flexinfer.events import subjects
from flexinfer.events.permissions import BOOTSTRAP, CLUSTER_USERS, GROUPS, USERS, permissions
from flexinfer.events.subjects import STREAMS
from flexinfer.runtime.settings import Settings

ROOT = Path(__file__).resolve().parents[3]
CONTROLLERS = [name for name, row in SERVICES.items() if row.condition and name != "watcher"]


def test_only_the_watcher_writes_the_state_stream() -> None:
    """One writer per fact."""
    for subject in STREAMS["FI_STATE"]:
        assert [name for name in SERVICES if subject in permissions(name).publish] == ["watcher"]


def test_the_reaper_and_the_prefetcher_hear_a_wake() -> None:
    """A request starts a Model, and a download that failed is tried again for it; no other component reacts."""
    hears = [n for n in SERVICES if "flexinfer.wake.>" in permissions(n).subscribe]
    assert hears == ["prefetcher", "reaper"]


def test_only_the_launcher_says_ready() -> None:
    """The proxies honour this hint, so one component alone may publish it."""
    assert [n for n in SERVICES if "flexinfer.ready.>" in permissions(n).publish] == ["launcher"]


def test_only_bootstrap_makes_streams_and_it_makes_none_but_the_state_again() -> None:
    """Streams belong to one identity. The state is a copy of what the API server holds; history is not."""
    streams = {n: [s for s in permissions(n).publish if "$JS.API.STREAM" in s] for n in USERS}
    assert [name for name, subjects in streams.items() if subjects] == [BOOTSTRAP]
    verbs = {(verb, stream) for _, _, _, verb, stream in (s.split(".") for s in streams[BOOTSTRAP])}
    again = {(verb, "FI_STATE") for verb in ("UPDATE", "PURGE", "DELETE")}
    assert verbs == again | {(verb, stream) for verb in ("INFO", "CREATE") for stream in STREAMS}


@pytest.mark.parametrize("user", USERS)
def test_every_user_has_an_inbox_that_no_other_can_read(user: str) -> None:
    """A component reads its own replies only."""
    assert [s for s in permissions(user).subscribe if s.startswith("_INBOX")] == [f"_INBOX_{user}.>"]


@pytest.mark.parametrize("user", USERS)
def test_no_user_may_create_a_consumer_without_a_filter(user: str) -> None:
    """Without a filter in the subject the server could not check it."""
    creates = [s for s in permissions(user).publish if ".CONSUMER." in s]
    assert all(s.split(".")[5] == "*" and s.split(".")[6] == "flexinfer" for s in creates)


@pytest.mark.parametrize("receiver", CHANGED_RECEIVERS)
def test_status_writes_are_heard_by_their_receivers_only(receiver: str) -> None:
    """The hand-over of one owner to the next."""
    heard = {s.split(".")[2] for s in permissions(receiver).subscribe if s.startswith("flexinfer.changed.")}
    assert heard == set(CHANGED_RECEIVERS[receiver])


@pytest.mark.parametrize("group", GROUPS)
def test_the_user_of_several_components_has_the_permissions_of_each(group: str) -> None:
    """`flexinfer run --controllers` connects as one user; a cluster has no such user."""
    together = permissions(group)
    for name in GROUPS[group]:
        assert set(permissions(name).publish) <= set(together.publish)
    assert group not in CLUSTER_USERS


def test_an_unknown_user_is_refused() -> None:
    """No permissions by accident."""
    with pytest.raises(KeyError):
        permissions("stranger")


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_controller_may_read_exactly_what_it_subscribes_to(name: str) -> None:
    """A missing right would show up as silence, and a right that is not used is one too many."""
    used = importlib.import_module(f"flexinfer.{name}.__main__").controller(Settings()).subscriptions
    rights = permissions(name)
    live = {f"$JS.API.CONSUMER.CREATE.FI_LIVE.*.flexinfer.{prefix}.>" for prefix in used.live}
    heard = {f"flexinfer.{hint}.>" for hint in used.hints}
    heard |= {f"flexinfer.changed.{owner}.>" for owner in used.changed}
    assert {s for s in rights.publish if ".CONSUMER.CREATE.FI_LIVE." in s} == live
    assert {s for s in rights.subscribe if not s.startswith("_INBOX")} == heard


def _built(tree: ast.AST) -> Iterator[str]:
    """Yield the names of the events that a module builds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in KINDS:
                yield name


BUILT_TO_APPLY = {
    "ModelObserved",
    "ModelDeleted",
    "GroupObserved",
    "GroupDeleted",
    "LeaseObserved",
    "LeaseDeleted",
}
"""Replies of the API server are applied to the observed state as events; only the watcher publishes them."""
KINDS = {
    "ModelObserved": "model",
    "ModelDeleted": "model",
    "WorkloadObserved": "workload",
    "WorkloadDeleted": "workload",
    "GroupObserved": "group",
    "GroupDeleted": "group",
    "LeaseObserved": "lease",
    "LeaseDeleted": "lease",
    "NodeObserved": "node",
    "NodeDeleted": "node",
    "GpusObserved": "gpu",
    "ActivityObserved": "activity",
    "ProxyObserved": "activity",
    "WakeRequested": "wake",
    "EngineReady": "ready",
    "DownloadObserved": "download",
    "SampleAwaited": "sample",
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_component_may_publish_exactly_the_events_that_it_builds(name: str) -> None:
    """Read from its source; status hints and history are written by the runtime for every owner."""
    own = {s.split(".")[1] for s in permissions(name).publish if s.startswith("flexinfer.")}
    files = (ROOT / "services" / "flexinfer" / name).rglob("*.py")
    built = {event for path in files for event in _built(ast.parse(path.read_text()))}
    if name != "watcher":
        built -= BUILT_TO_APPLY
    kinds = {KINDS[event] for event in built}
    if name == "watcher":
        kinds.add("watermark")  # built by the state writer
    changed = {"changed"} if SERVICES[name].condition else set()
    assert own == kinds | changed | {"history", "dead"}
    assert kinds <= {
        pattern.split(".")[1] for patterns in subjects.STREAMS.values() for pattern in patterns
    } | {
        "wake",
        "ready",
        "download",
        "sample",
    }
