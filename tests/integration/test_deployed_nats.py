"""NATS as deploy/ configures it: encrypted, and every user against every subject, both ways, consumers included."""

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from nats.aio.client import Client

from flexinfer.api.services import CHANGED_RECEIVERS, SERVICES
from flexinfer.credentials.secrets import USERS, secret_of
from flexinfer.events import events
from flexinfer.events.permissions import BOOTSTRAP, TAP
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.runtime import Snapshot, Subscriptions
from tests.builders import a_model
from tests.deployed_nats import single_server, three_servers

pytestmark = pytest.mark.integration

ALL, NOBODY = frozenset(SERVICES), frozenset[str]()
READERS = ALL - {"agent"}
STATUS = ("watcher", "placer", "prefetcher", "reaper", "arbiter", "launcher")
STREAMS = ("FI_STATE", "FI_LIVE", "FI_HISTORY", "FI_DEAD")
_CREATE = "$JS.API.CONSUMER.CREATE"
_LAST = "the.last"


def users(*names: str) -> frozenset[str]:
    """Return a set of users."""
    return frozenset(names)


MAY_PUBLISH: Mapping[str, frozenset[str]] = {
    "flexinfer.model.default.a": users("watcher"),
    "flexinfer.workload.default.a": users("watcher"),
    "flexinfer.node.a": users("watcher"),
    "flexinfer.watermark": users("watcher"),
    "flexinfer.gpu.a": users("agent"),
    "flexinfer.activity.p": users("proxy"),
    "flexinfer.activity.p.default.a": users("proxy"),
    "flexinfer.wake.default.a": users("proxy"),
    "flexinfer.ready.default.a": users("launcher"),
    "flexinfer.history.default.a": ALL,
    "flexinfer.dead.wake.default.a": ALL,
    **{f"flexinfer.changed.{owner}.default.a": users(owner) for owner in STATUS},
    "flexinfer.changed.proxy.default.a": NOBODY,
    "flexinfer.changed.agent.default.a": NOBODY,
    "flexinfer": NOBODY,
    "elsewhere": NOBODY,
    # Streams: made by one identity, and never changed, emptied or taken away.
    **{f"$JS.API.STREAM.{verb}.{stream}": users(BOOTSTRAP) for verb in ("INFO", "CREATE") for stream in STREAMS},
    **{f"$JS.API.STREAM.{verb}.FI_STATE": NOBODY for verb in ("UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE")},
    "$JS.API.STREAM.CREATE.FI_OTHER": NOBODY,
    "$JS.API.STREAM.MSG.DELETE.FI_STATE": NOBODY,
    "$JS.API.STREAM.MSG.GET.FI_STATE": NOBODY,
    "$JS.API.DIRECT.GET.FI_STATE": NOBODY,
    "$JS.API.STREAM.NAMES": NOBODY,
    "$JS.API.STREAM.LIST": NOBODY,
    "$JS.API.INFO": NOBODY,
    # Consumers: on a filtered subject only, and only of what a service reads.
    f"{_CREATE}.FI_STATE.c.flexinfer.>": READERS | {TAP},
    f"{_CREATE}.FI_LIVE.c.flexinfer.gpu.>": users("placer", "arbiter", TAP),
    f"{_CREATE}.FI_LIVE.c.flexinfer.activity.>": users("launcher", "reaper", TAP),
    f"{_CREATE}.FI_LIVE.c.flexinfer.>": users(TAP),
    f"{_CREATE}.FI_HISTORY.c.flexinfer.history.>": users(TAP),
    f"{_CREATE}.FI_DEAD.c.flexinfer.dead.>": NOBODY,
    f"{_CREATE}.FI_STATE": NOBODY,
    f"{_CREATE}.FI_STATE.c": NOBODY,
    f"{_CREATE}.FI_STATE.c.>": NOBODY,
    f"{_CREATE}.FI_STATE.c.flexinfer.model.>": READERS | {TAP},  # a part of what they may read anyway
    "$JS.API.CONSUMER.DURABLE.CREATE.FI_STATE.c": NOBODY,
    "$JS.API.CONSUMER.DELETE.FI_STATE.c": NOBODY,
    "$JS.API.CONSUMER.INFO.FI_STATE.c": NOBODY,
    "$JS.API.CONSUMER.MSG.NEXT.FI_STATE.c": NOBODY,
    "$JS.ACK.FI_STATE.c.1.1.1.1.1": NOBODY,
    "$SYS.REQ.SERVER.PING": NOBODY,
    **{f"_INBOX_{user}.x": NOBODY for user in USERS},
}  # fmt: skip
MAY_HEAR: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            f"flexinfer.{kind}.>"
            for kind in ("model", "workload", "node", "gpu", "activity", "history", "dead")
        ),
        users(TAP),
    ),
    "flexinfer.watermark": users(TAP),
    "flexinfer.wake.>": users(TAP, "reaper"),
    "flexinfer.ready.>": users(TAP, "proxy"),
    "flexinfer.changed.watcher.>": users(TAP, "placer", "prefetcher", "reaper"),
    "flexinfer.changed.placer.>": users(TAP, "prefetcher", "reaper", "arbiter", "launcher"),
    "flexinfer.changed.prefetcher.>": users(TAP, "reaper", "arbiter", "launcher"),
    "flexinfer.changed.reaper.>": users(TAP, "arbiter", "launcher"),
    "flexinfer.changed.arbiter.>": users(TAP, "launcher"),
    "flexinfer.changed.launcher.>": users(TAP, "arbiter"),
    "flexinfer.changed.>": users(TAP),
    "flexinfer.>": users(TAP),
    ">": NOBODY,
    "*": NOBODY,
    "$JS.API.>": NOBODY,
    "$JS.EVENT.>": NOBODY,
    "$SYS.>": NOBODY,
    "_INBOX.>": NOBODY,
    **{f"_INBOX_{user}.>": users(user) for user in USERS},
}


@pytest.mark.parametrize("user", USERS)
async def test_every_user_against_every_subject(tmp_path: Path, user: str) -> None:
    """What is not granted is refused by the server; the tables are DESIGN's, written down once more."""
    async with single_server(tmp_path) as bus, bus.watched(user) as (client, refused):
        for subject in MAY_PUBLISH:
            await client.publish(subject, b"{}")
        assert await refusals(client, refused) == _without(MAY_PUBLISH, user)
        for pattern in MAY_HEAR:
            await client.subscribe(pattern)
        assert await refusals(client, refused) == _without(MAY_HEAR, user)


def _without(table: Mapping[str, frozenset[str]], user: str) -> set[str]:
    return {subject.lower() for subject, who in table.items() if user not in who}


async def refusals(client: Client, refused: list[str]) -> set[str]:
    """Return the subjects that the server refused since last asked, in small letters as the client tells them.

    It answers in order: once what nobody may is refused, everything before it has been answered.
    """
    await client.publish(_LAST, b"")
    async with asyncio.timeout(5):
        while not any(_LAST in sentence for sentence in refused):
            await asyncio.sleep(0.01)
    found = [re.search(r'(?:publish|subscription) to "([^"]+)"', sentence.lower()) for sentence in refused]
    assert all(found), refused
    refused.clear()
    return {match[1] for match in found if match} - {_LAST}


async def test_services_tell_and_hear_over_an_encrypted_connection(tmp_path: Path) -> None:
    """The settings of the manifests are enough: authority, user and password from files."""
    async with (
        single_server(tmp_path) as bus,
        bus.joined("watcher") as link,
        bus.joined(BOOTSTRAP) as bootstrap,
    ):
        stream = StateStream(link, bootstrap)
        await stream.open()
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.watermark()
        async with bus.joined("placer") as placer, asyncio.timeout(10):
            interests = Subscriptions(live=("gpu",), changed=CHANGED_RECEIVERS["placer"])
            first = await anext(NatsBus(placer).deliveries(interests))
            assert isinstance(first, Snapshot)
            assert len(first.observations) == 1


async def test_a_server_of_another_authority_gets_no_password(tmp_path: Path) -> None:
    """Whoever stands in for NATS learns nothing."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    async with single_server(tmp_path / "ours") as bus, single_server(tmp_path / "theirs") as other:
        held = bus.folder / secret_of("placer")
        wrong = connection.connected(
            "placer", other.url, "placer", str(held / "password"), str(held / "ca.crt")
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), wrong:
                pytest.fail("it was believed")
        assert "authorization" not in (other.folder / "nats-0" / "log").read_text().lower()


async def test_nothing_is_answered_in_the_clear(tmp_path: Path) -> None:
    """A client that does not encrypt is sent away before it has said who it is."""
    async with single_server(tmp_path) as bus, asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
        writer.write(b'CONNECT {"user": "tap", "pass": "x", "verbose": true}\r\nPING\r\n')
        told = await reader.read()
        writer.close()
        assert b"PONG" not in told


async def test_three_servers_keep_every_stream_three_times(tmp_path: Path) -> None:
    """The overlay `ha`: one of them may go, and what was told is there."""
    async with three_servers(tmp_path) as servers, asyncio.timeout(60):
        async with servers[0].joined("watcher") as link, servers[0].joined(BOOTSTRAP) as bootstrap:
            stream = StateStream(link, bootstrap, replicas=3)
            await stream.open()
            for stream_name in STREAMS:
                reply = await bootstrap.request(f"$JS.API.STREAM.INFO.{stream_name}", b"", seconds=5)
                assert json.loads(reply.data)["config"]["num_replicas"] == 3
            await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
            await stream.watermark()
        await asyncio.to_thread(servers[0].process.kill)
        async with servers[1].joined("placer") as placer:
            first = await anext(NatsBus(placer).deliveries(Subscriptions()))
            assert isinstance(first, Snapshot)
            assert len(first.observations) == 1
