"""Permissions and configuration of the bus, as values."""

import json
from pathlib import Path

import pytest

from flexinfer.api.services import CHANGED_RECEIVERS, SERVICES
from flexinfer.events.subjects import STREAMS
from flexinfer.local import bus
from flexinfer.local.bus import permissions


def test_only_the_watcher_writes_the_state_stream() -> None:
    """One writer per fact."""
    for subject in STREAMS["FI_STATE"]:
        assert [name for name in bus.SERVICES if subject in permissions(name).publish] == ["watcher"]


def test_only_the_reaper_hears_a_wake() -> None:
    """Nobody else listens to who asks for a sleeping Model."""
    assert [n for n in bus.SERVICES if "flexinfer.wake.>" in permissions(n).subscribe] == ["reaper"]


def test_only_the_launcher_says_ready() -> None:
    """The proxies honour this hint, so one service alone may give it."""
    assert [n for n in bus.SERVICES if "flexinfer.ready.>" in permissions(n).publish] == ["launcher"]


def test_only_bootstrap_makes_streams_and_nobody_deletes_or_purges_one() -> None:
    """Streams belong to one identity."""
    streams = {n: [s for s in permissions(n).publish if "$JS.API.STREAM" in s] for n in bus.USERS}
    assert [name for name, subjects in streams.items() if subjects] == [bus.BOOTSTRAP]
    assert {subject.split(".")[3] for subject in streams[bus.BOOTSTRAP]} == {"INFO", "CREATE"}


@pytest.mark.parametrize("user", bus.USERS)
def test_every_user_has_an_inbox_that_no_other_can_read(user: str) -> None:
    """A service reads its own replies only."""
    assert [s for s in permissions(user).subscribe if s.startswith("_INBOX")] == [f"_INBOX_{user}.>"]


@pytest.mark.parametrize("user", bus.USERS)
def test_nobody_may_create_a_consumer_without_a_filter(user: str) -> None:
    """Without a filter in the subject the server could not check it."""
    creates = [s for s in permissions(user).publish if ".CONSUMER." in s]
    assert all(s.split(".")[5] == "*" and s.split(".")[6] == "flexinfer" for s in creates)


@pytest.mark.parametrize("receiver", CHANGED_RECEIVERS)
def test_status_writes_are_heard_by_their_receivers_only(receiver: str) -> None:
    """The hand-over of one owner to the next, as the contract has it."""
    heard = {s.split(".")[2] for s in permissions(receiver).subscribe if s.startswith("flexinfer.changed.")}
    assert heard == set(CHANGED_RECEIVERS[receiver])


def test_the_user_of_all_services_may_what_each_of_them_may() -> None:
    """`flexinfer run --all` connects once, for all."""
    told = permissions(bus.ALL_SERVICES)
    for name in bus.SERVICES:
        assert set(permissions(name).publish) <= set(told.publish)


def test_a_name_that_is_no_user_is_refused() -> None:
    """No permissions by accident."""
    with pytest.raises(KeyError):
        permissions("stranger")


def test_the_configuration_syncs_every_write_and_listens_where_told() -> None:
    """JetStream's file store must not lose what it acked."""
    text = bus.configuration(host="127.0.0.1", port=4, store=Path("/s"), passwords={"tap": "p"})
    config = json.loads(text)
    assert (config["host"], config["port"]) == ("127.0.0.1", 4)
    assert config["jetstream"]["sync_interval"] == "always"
    assert [user["user"] for user in config["authorization"]["users"]] == ["tap"]


@pytest.mark.parametrize("name", ["placer", "prefetcher", "launcher", "reaper", "arbiter"])
def test_a_service_may_hear_what_it_says_it_is_interested_in(name: str) -> None:
    """A refusal by the server would show up as silence, so the two lists must not drift apart."""
    row = SERVICES[name]
    told = permissions(name)
    live = {f"$JS.API.CONSUMER.CREATE.FI_LIVE.*.flexinfer.{prefix}.>" for prefix in row.live}
    heard = {f"flexinfer.{hint}.>" for hint in row.hints}
    heard |= {f"flexinfer.changed.{owner}.>" for owner in row.hears}
    assert live <= set(told.publish)
    assert heard <= set(told.subscribe)
