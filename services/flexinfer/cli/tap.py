"""`flexinfer tap`: what travels on the bus, one readable line an event.

A plain subscription of a read-only user: whoever listens changes nothing. `--history` shows the kept history first.
"""

import argparse
import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from flexinfer.cli.errors import CommandError
from flexinfer.cli.sentences import raw, sentence
from flexinfer.cli.target import state_argument, variable
from flexinfer.events.subjects import HISTORY_STREAM, ROOT
from flexinfer.runtime.nats import codec, connection
from flexinfer.runtime.nats.connection import Connection, StreamError
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError

EVERYTHING, HISTORY = f"{ROOT}.>", f"{ROOT}.history.>"
_CONNECT_SECONDS = 5.0
_SUBJECT_WIDTH = 46


def arguments(parser: argparse.ArgumentParser) -> None:
    """Take a subject, --history and --state."""
    parser.add_argument("subject", nargs="?", default=EVERYTHING, help=f"what to hear (default {EVERYTHING})")
    parser.add_argument("--history", action="store_true", help="show the history of the last 7 days first")
    state_argument(parser)


def run(given: argparse.Namespace) -> int:
    """Print events until interrupted."""
    url = variable("NATS_URL", given)
    if not re.fullmatch(r"[^\s\0]+", given.subject):
        raise CommandError(f"{given.subject!r} is not a subject, such as {EVERYTHING}")
    try:
        asyncio.run(_tap(url, given.subject, history=given.history))
    except (StreamError, ReplayRequiredError) as error:
        raise CommandError(str(error)) from error
    return 0


async def _tap(url: str, subject: str, *, history: bool) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with reached(url) as link:
        if history:
            for told in await kept(link, HISTORY):
                print(told, flush=True)

        async def show(message: Msg) -> None:
            print(line(datetime.now(UTC), message), flush=True)

        await link.client.subscribe(subject, cb=show)
        await link.client.flush()
        await stopping.wait()


@contextlib.asynccontextmanager
async def reached(url: str) -> AsyncIterator[Connection]:
    """Connect as the tap; CommandError when nobody answers or lets us in."""
    place = urlsplit(url)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(place.hostname, place.port)
                writer.close()
                link = await stack.enter_async_context(connection.connected("tap", url, "", ""))
        except (TimeoutError, OSError, NatsError) as error:
            raise CommandError(
                f"NATS at {place.hostname}:{place.port} does not answer or does not let us in; "
                "is `flexinfer up` running?"
            ) from error
        yield link


async def kept(link: Connection, pattern: str) -> list[str]:
    """Return what the stream of history holds of a subject, as lines."""
    lines: list[str] = []
    async with OrderedConsumer(link, HISTORY_STREAM, pattern).opened() as reading:
        if reading.pending:
            async for message in reading.messages():
                lines.append(line(message.metadata.timestamp, message))
                if len(lines) >= reading.pending:
                    break
    return lines


def line(when: datetime, message: Msg) -> str:
    """Return one event as a line: time, subject, and what it says."""
    try:
        told = sentence(codec.decode(message.data))
    except codec.UndecodableError:
        told = raw(message.data)
    stamp = when.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{stamp}  {raw(message.subject.encode()):<{_SUBJECT_WIDTH}}  {told}"
