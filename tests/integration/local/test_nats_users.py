"""Every user of the local NATS on a real nats-server: what it may do works, anything else is refused."""

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from flexinfer.api.services import CHANGED_RECEIVERS
from flexinfer.events import codec, events, permissions, subjects
from flexinfer.local import instance as instances
from flexinfer.local.instance import Instance
from flexinfer.local.supervisor import provisioning
from flexinfer.local.supervisor.instance_programs import nats_server
from flexinfer.local.supervisor.readiness import Banner, until_ready
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.connection import Connection
from flexinfer.runtime.nats.consumer import OrderedConsumer
from flexinfer.runtime.nats.state_reader import NatsBus
from flexinfer.runtime.nats.state_writer import StateStream
from flexinfer.runtime.runtime import Snapshot, Subscriptions
from tests.builders import a_model
from tests.patience import patient

pytestmark = pytest.mark.integration

SUBSCRIPTIONS = {
    "placer": Subscriptions(live=("gpu",), changed=CHANGED_RECEIVERS["placer"]),
    "prefetcher": Subscriptions(changed=CHANGED_RECEIVERS["prefetcher"]),
    "launcher": Subscriptions(live=("activity", "gpu"), changed=CHANGED_RECEIVERS["launcher"]),
    "reaper": Subscriptions(live=("activity",), hints=("wake",), changed=CHANGED_RECEIVERS["reaper"]),
    "arbiter": Subscriptions(live=("gpu",), changed=CHANGED_RECEIVERS["arbiter"]),
    "proxy": Subscriptions(hints=("ready",)),
}


@contextlib.asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Instance]:
    """Run nats-server as `flexinfer up` does, with streams and the event of one Model."""
    with instances.opened(folder / "state") as instance:
        provisioning.write_files(instance)
        async with _running(instance):
            yield instance


@contextlib.asynccontextmanager
async def _running(instance: Instance) -> AsyncIterator[None]:
    with instance.log("nats").open("wb") as log:
        server = subprocess.Popen([nats_server(), "-c", str(instance.nats_config)], stdout=log, stderr=log)
    try:
        async with asyncio.timeout(patient(10)):
            await until_ready(Banner(port=instance.ports.nats, opening=b"INFO "))
        async with joined(instance, "watcher") as link, joined(instance, permissions.BOOTSTRAP) as bootstrap:
            stream = StateStream(link, bootstrap)
            await stream.open()
            await stream.publish(events.ModelObserved(model=a_model("a", version=1)))
            await stream.watermark()
            yield
    finally:
        server.kill()
        await asyncio.to_thread(server.wait)


def joined(instance: Instance, user: str) -> contextlib.AbstractAsyncContextManager[Connection]:
    """Connect as a component does."""
    return connection.connected(user, instance.nats_url, user, str(instance.nats_password_file(user)))


@contextlib.asynccontextmanager
async def watched(instance: Instance, user: str) -> AsyncIterator[tuple[Client, list[str]]]:
    """Connect as a user; yield the client and the list of the errors that the server reports to it."""
    errors: list[str] = []

    async def note(error: Exception) -> None:
        errors.append(str(error))

    client = await nats.connect(
        instance.nats_url,
        user=user,
        password=instances.read_secret(instance.nats_password_file(user)),
        inbox_prefix=f"_INBOX_{user}",
        error_cb=note,
    )
    try:
        yield client, errors
    finally:
        await client.close()


async def refusals(client: Client, errors: list[str], count: int) -> None:
    """Wait until the server has reported `count` errors."""
    async with asyncio.timeout(patient(5)):
        while len(errors) < count:
            await client.flush()
            await asyncio.sleep(0.01)


async def test_every_reader_gets_its_snapshot_with_its_own_user(tmp_path: Path) -> None:
    """The permissions suffice for the subscriptions of the components."""
    async with served(tmp_path) as instance:
        for name, subscriptions in SUBSCRIPTIONS.items():
            async with joined(instance, name) as link, asyncio.timeout(patient(10)):
                first = await anext(NatsBus(link).deliveries(subscriptions))
                assert isinstance(first, Snapshot), name
                assert len(first.observations) == 1, name


async def test_publishers_of_live_state_are_told_that_it_is_stored(tmp_path: Path) -> None:
    """Each by its own user: without the right to read the reply they would publish it again and again."""
    sample, heartbeat = events.GpusObserved(node="n", boot="b", sample=1), events.ProxyObserved(proxy="p")
    published = (("agent", sample), ("proxy", heartbeat), (permissions.ALL, sample))
    async with served(tmp_path) as instance:
        for user, event in published:
            async with joined(instance, user) as link:
                assert await NatsBus(link).publish(event), user


async def test_one_user_serves_all_controllers_in_one_process(tmp_path: Path) -> None:
    """`flexinfer run --controllers`: the subscriptions of each, over one user."""
    async with served(tmp_path) as instance:
        for name, subscriptions in SUBSCRIPTIONS.items():
            if name == "proxy":
                continue
            async with joined(instance, permissions.CONTROLLERS) as link, asyncio.timeout(patient(10)):
                assert isinstance(await anext(NatsBus(link).deliveries(subscriptions)), Snapshot)


@pytest.mark.parametrize("user", permissions.USERS)
async def test_a_user_may_publish_its_own_subjects_and_no_others(tmp_path: Path, user: str) -> None:
    """The server refuses events of other users and the deletion or purge of a stream; bootstrap's of the state aside."""
    stream = "FI_HISTORY" if user == permissions.BOOTSTRAP else "FI_STATE"
    foreign = [
        f"$JS.API.STREAM.DELETE.{stream}",
        f"$JS.API.STREAM.PURGE.{stream}",
        "$JS.API.CONSUMER.CREATE.FI_STATE",
        "$JS.API.CONSUMER.CREATE.FI_STATE.x.>",
        "elsewhere",
        f"_INBOX_{'tap' if user != 'tap' else 'proxy'}.x",
    ]
    if user not in {"watcher", *permissions.GROUPS}:
        foreign += ["flexinfer.model.default.a", "flexinfer.watermark"]
    async with served(tmp_path) as instance, watched(instance, user) as (client, errors):
        for subject in foreign:
            await client.publish(subject, b"{}")
        await refusals(client, errors, len(foreign))
        own = [
            s for s in permissions.permissions(user).publish if s.startswith("flexinfer.") and s.endswith(">")
        ]
        for pattern in own:
            await client.publish(pattern.replace(">", "x.y"), b"{}")
        await connection.flush(client)
        assert len(errors) == len(foreign), errors


@pytest.mark.parametrize("user", [user for user in permissions.USERS if user != permissions.TAP])
async def test_no_component_may_subscribe_to_all_subjects_or_to_foreign_replies(
    tmp_path: Path, user: str
) -> None:
    """Only the tap user may subscribe to all subjects, and no user to the inbox of another."""
    async with served(tmp_path) as instance, watched(instance, user) as (client, errors):
        for pattern in (">", "flexinfer.>", "_INBOX_tap.>"):
            await client.subscribe(pattern)
        await refusals(client, errors, 3)


async def test_the_tap_user_subscribes_to_everything_and_reads_the_history(tmp_path: Path) -> None:
    """With a plain subscription, and a consumer from the beginning of the history stream."""
    event = events.HistoryRecorded(
        namespace="default", name="a", uid="u", service="placer", step="Placed=True"
    )
    async with (
        served(tmp_path) as instance,
        joined(instance, "placer") as placer,
        joined(instance, permissions.TAP) as tap,
    ):
        subscription = await tap.client.subscribe("flexinfer.>")
        await connection.flush(tap.client)
        await NatsBus(placer).publish(event)
        assert (await subscription.next_msg(timeout=patient(5))).subject == "flexinfer.history.default.a"
        async with OrderedConsumer(tap, subjects.HISTORY_STREAM, "flexinfer.history.>").opened() as consumer:
            async with asyncio.timeout(patient(5)):
                message = await anext(consumer.messages())
            assert message.subject == "flexinfer.history.default.a"


async def test_the_proxy_records_the_steps_of_an_operation(tmp_path: Path) -> None:
    """Each is stored, though all are of one version of the Model; one that is published twice is stored once."""
    steps = [f"prompt 5b0c-1: step {number} of 20 of node 12:4" for number in (1, 6, 6, 11)]
    async with (
        served(tmp_path) as instance,
        joined(instance, "proxy") as proxy,
        joined(instance, permissions.TAP) as tap,
        asyncio.timeout(patient(10)),
    ):
        for step in steps:
            event = events.HistoryRecorded(
                namespace="default", name="a", uid="u", service="proxy", step=step, version=7
            )
            assert await NatsBus(proxy).publish(event)
        async with OrderedConsumer(tap, subjects.HISTORY_STREAM, "flexinfer.history.>").opened() as consumer:
            read = consumer.messages()
            stored = [codec.decode((await anext(read)).data) for _ in range(3)]
    assert [getattr(event, "step", "") for event in stored] == [steps[0], steps[1], steps[3]]


@pytest.mark.parametrize("credentials", [b"{}", b'{"user": "tap", "pass": "wrong"}'], ids=["none", "wrong"])
async def test_a_client_without_a_password_is_refused(tmp_path: Path, credentials: bytes) -> None:
    """Another user of the machine cannot connect."""
    async with served(tmp_path) as instance, asyncio.timeout(patient(10)):
        reader, writer = await asyncio.open_connection("127.0.0.1", instance.ports.nats)
        writer.write(b"CONNECT " + credentials + b"\r\nPING\r\n")
        response = await reader.read()
        writer.close()
        await writer.wait_closed()
        assert b"Authorization Violation" in response
        assert b"PONG" not in response.splitlines()  # it may be in the name of the server, which is drawn
