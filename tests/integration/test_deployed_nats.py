"""NATS as deploy/ configures it: encryption, and the permissions of every user on subjects and consumers."""

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
from tests.patience import patient

pytestmark = pytest.mark.integration

ALL, NO_USER = frozenset(SERVICES), frozenset[str]()
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
    "flexinfer.download.default.a": users("prefetcher"),
    "flexinfer.sample.a": users("arbiter"),
    "flexinfer.history.default.a": ALL,
    "flexinfer.dead.wake.default.a": ALL,
    **{f"flexinfer.changed.{owner}.default.a": users(owner) for owner in STATUS},
    "flexinfer.changed.proxy.default.a": NO_USER,
    "flexinfer.changed.agent.default.a": NO_USER,
    "flexinfer": NO_USER,
    "elsewhere": NO_USER,
    # Streams: created by one user, and never updated, purged or deleted; the state aside, which that user may make again.
    **{f"$JS.API.STREAM.{verb}.{stream}": users(BOOTSTRAP) for verb in ("INFO", "CREATE") for stream in STREAMS},
    **{f"$JS.API.STREAM.{verb}.FI_STATE": users(BOOTSTRAP) for verb in ("UPDATE", "DELETE", "PURGE")},
    **{f"$JS.API.STREAM.{verb}.FI_STATE": NO_USER for verb in ("SNAPSHOT", "RESTORE")},
    **{f"$JS.API.STREAM.{verb}.FI_HISTORY": NO_USER for verb in ("UPDATE", "DELETE", "PURGE", "SNAPSHOT", "RESTORE")},
    "$JS.API.STREAM.CREATE.FI_OTHER": NO_USER,
    "$JS.API.STREAM.MSG.DELETE.FI_STATE": NO_USER,
    "$JS.API.STREAM.MSG.GET.FI_STATE": NO_USER,
    "$JS.API.DIRECT.GET.FI_STATE": NO_USER,
    "$JS.API.STREAM.NAMES": NO_USER,
    "$JS.API.STREAM.LIST": NO_USER,
    "$JS.API.INFO": NO_USER,
    # Consumers: with a filter subject only, and only for the subjects that a component reads.
    f"{_CREATE}.FI_STATE.c.flexinfer.>": READERS | {TAP},
    f"{_CREATE}.FI_LIVE.c.flexinfer.gpu.>": users("placer", "arbiter", "launcher", TAP),
    f"{_CREATE}.FI_LIVE.c.flexinfer.activity.>": users("launcher", "reaper", "arbiter", TAP),
    f"{_CREATE}.FI_LIVE.c.flexinfer.>": users(TAP),
    f"{_CREATE}.FI_HISTORY.c.flexinfer.history.>": users(TAP),
    f"{_CREATE}.FI_DEAD.c.flexinfer.dead.>": NO_USER,
    f"{_CREATE}.FI_STATE": NO_USER,
    f"{_CREATE}.FI_STATE.c": NO_USER,
    f"{_CREATE}.FI_STATE.c.>": NO_USER,
    f"{_CREATE}.FI_STATE.c.flexinfer.model.>": READERS | {TAP},  # a subset of what they may read
    "$JS.API.CONSUMER.DURABLE.CREATE.FI_STATE.c": NO_USER,
    "$JS.API.CONSUMER.DELETE.FI_STATE.c": NO_USER,
    "$JS.API.CONSUMER.INFO.FI_STATE.c": NO_USER,
    "$JS.API.CONSUMER.MSG.NEXT.FI_STATE.c": NO_USER,
    "$JS.ACK.FI_STATE.c.1.1.1.1.1": NO_USER,
    "$SYS.REQ.SERVER.PING": NO_USER,
    **{f"_INBOX_{user}.x": NO_USER for user in USERS},
}  # fmt: skip
MAY_SUBSCRIBE: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        (
            f"flexinfer.{kind}.>"
            for kind in ("model", "workload", "node", "gpu", "activity", "download", "history", "dead")
        ),
        users(TAP),
    ),
    "flexinfer.watermark": users(TAP),
    "flexinfer.wake.>": users(TAP, "reaper", "prefetcher"),
    "flexinfer.ready.>": users(TAP, "proxy"),
    "flexinfer.sample.>": users(TAP, "agent"),
    "flexinfer.changed.watcher.>": users(TAP, "placer", "prefetcher", "reaper"),
    "flexinfer.changed.placer.>": users(TAP, "prefetcher", "reaper", "arbiter", "launcher"),
    "flexinfer.changed.prefetcher.>": users(TAP, "reaper", "arbiter", "launcher"),
    "flexinfer.changed.reaper.>": users(TAP, "arbiter", "launcher"),
    "flexinfer.changed.arbiter.>": users(TAP, "launcher"),
    "flexinfer.changed.launcher.>": users(TAP, "arbiter"),
    "flexinfer.changed.>": users(TAP),
    "flexinfer.>": users(TAP),
    ">": NO_USER,
    "*": NO_USER,
    "$JS.API.>": NO_USER,
    "$JS.EVENT.>": NO_USER,
    "$SYS.>": NO_USER,
    "_INBOX.>": NO_USER,
    **{f"_INBOX_{user}.>": users(user) for user in USERS},
}


@pytest.mark.parametrize("user", USERS)
async def test_every_user_has_the_permissions_of_the_tables(tmp_path: Path, user: str) -> None:
    """The server refuses all other subjects; the tables repeat those of DESIGN."""
    async with single_server(tmp_path) as bus, bus.watched(user) as (client, errors):
        for subject in MAY_PUBLISH:
            await client.publish(subject, b"{}")
        assert await refusals(client, errors) == _without(MAY_PUBLISH, user)
        for pattern in MAY_SUBSCRIBE:
            await client.subscribe(pattern)
        assert await refusals(client, errors) == _without(MAY_SUBSCRIBE, user)


def _without(table: Mapping[str, frozenset[str]], user: str) -> set[str]:
    return {subject.lower() for subject, who in table.items() if user not in who}


async def refusals(client: Client, errors: list[str]) -> set[str]:
    """Return the subjects that the server has refused since the last call, in lower case.

    The server answers in order: it refuses the last subject, which no user may publish, after all others.
    """
    await client.publish(_LAST, b"")
    async with asyncio.timeout(patient(5)):
        while not any(_LAST in sentence for sentence in errors):
            await asyncio.sleep(0.01)
    matches = [re.search(r'(?:publish|subscription) to "([^"]+)"', sentence.lower()) for sentence in errors]
    assert all(matches), errors
    errors.clear()
    return {match[1] for match in matches if match} - {_LAST}


async def test_components_publish_and_subscribe_over_an_encrypted_connection(tmp_path: Path) -> None:
    """With the settings of the manifests: certificate authority, user and password from files."""
    async with (
        single_server(tmp_path) as bus,
        bus.joined("watcher") as link,
        bus.joined(BOOTSTRAP) as bootstrap,
    ):
        stream = StateStream(link, bootstrap)
        await stream.open()
        await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
        await stream.watermark()
        async with bus.joined("placer") as placer, asyncio.timeout(patient(10)):
            subscriptions = Subscriptions(live=("gpu",), changed=CHANGED_RECEIVERS["placer"])
            first = await anext(NatsBus(placer).deliveries(subscriptions))
            assert isinstance(first, Snapshot)
            assert len(first.observations) == 1


async def test_a_server_with_a_foreign_certificate_gets_no_password(tmp_path: Path) -> None:
    """A server that impersonates NATS learns no credentials."""
    (tmp_path / "ours").mkdir()
    (tmp_path / "theirs").mkdir()
    async with single_server(tmp_path / "ours") as bus, single_server(tmp_path / "theirs") as other:
        secret = bus.folder / secret_of("placer")
        wrong = connection.connected(
            "placer", other.url, "placer", str(secret / "password"), str(secret / "ca.crt")
        )
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1), wrong:
                pytest.fail("the certificate was accepted")
        assert "authorization" not in (other.folder / "nats-0" / "log").read_text().lower()


async def test_an_unencrypted_client_is_disconnected(tmp_path: Path) -> None:
    """Before it is authenticated."""
    async with single_server(tmp_path) as bus, asyncio.timeout(patient(10)):
        reader, writer = await asyncio.open_connection("127.0.0.1", bus.port)
        writer.write(b'CONNECT {"user": "tap", "pass": "x", "verbose": true}\r\nPING\r\n')
        response = await reader.read()
        writer.close()
        assert b"PONG" not in response.splitlines()  # it may be in the name of the server, which is drawn


async def test_three_servers_replicate_every_stream(tmp_path: Path) -> None:
    """In the overlay `ha` one server may fail, and no published event is lost."""
    async with three_servers(tmp_path) as servers, asyncio.timeout(patient(60)):
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
            deliveries = NatsBus(placer).deliveries(Subscriptions())
            first = await anext(deliveries)
            while not isinstance(first, Snapshot):  # a replay that began again says so
                first = await anext(deliveries)
            assert len(first.observations) == 1
