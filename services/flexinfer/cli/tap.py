"""`flexinfer tap`: the events on NATS, one readable line each.

A plain subscription of a read-only user: it changes nothing. `--history` prints the recorded history first.
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
from flexinfer.runtime.nats.connection import Connection, StreamError, flush
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError

EVERYTHING, HISTORY = f"{ROOT}.>", f"{ROOT}.history.>"
_CONNECT_SECONDS = 5.0
_SUBJECT_WIDTH = 46


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subject, --history and --state."""
    parser.add_argument(
        "subject", nargs="?", default=EVERYTHING, help=f"subject to subscribe to (default {EVERYTHING})"
    )
    parser.add_argument("--history", action="store_true", help="print the history of the last 7 days first")
    state_argument(parser)


def run(options: argparse.Namespace) -> int:
    """Print events until interrupted."""
    url = variable("NATS_URL", options)
    if not re.fullmatch(r"[^\s\0]+", options.subject):
        raise CommandError(f"{options.subject!r} is not a subject, such as {EVERYTHING}")
    try:
        asyncio.run(_tap(url, options.subject, history=options.history))
    except (StreamError, ReplayRequiredError) as error:
        raise CommandError(str(error)) from error
    return 0


async def _tap(url: str, subject: str, *, history: bool) -> None:
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with connect_tap(url) as link:
        if history:
            for event in await recorded(link, HISTORY):
                print(event, flush=True)

        async def show(message: Msg) -> None:
            print(line(datetime.now(UTC), message), flush=True)

        await link.client.subscribe(subject, cb=show)
        await flush(link.client)
        await stopping.wait()


@contextlib.asynccontextmanager
async def connect_tap(url: str) -> AsyncIterator[Connection]:
    """Connect as the tap. Raises CommandError if NATS does not answer or refuses the credentials."""
    place = urlsplit(url)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(place.hostname, place.port)
                writer.close()
                link = await stack.enter_async_context(connection.connected("tap", url, "", ""))
        except (TimeoutError, OSError, NatsError) as error:
            raise CommandError(
                f"NATS at {place.hostname}:{place.port} does not answer, or refused the credentials; "
                "is `flexinfer up` running?"
            ) from error
        yield link


async def recorded(link: Connection, pattern: str) -> list[str]:
    """Return the recorded history of a subject, as lines."""
    lines: list[str] = []
    async with OrderedConsumer(link, HISTORY_STREAM, pattern).opened() as reading:
        if reading.pending:
            async for message in reading.messages():
                lines.append(line(message.metadata.timestamp, message))
                if len(lines) >= reading.pending:
                    break
    return lines


def line(when: datetime, message: Msg) -> str:
    """Return one event as a line: time, subject, sentence."""
    try:
        text = sentence(codec.decode(message.data))
    except codec.UndecodableError:
        text = raw(message.data)
    stamp = when.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return f"{stamp}  {raw(message.subject.encode()):<{_SUBJECT_WIDTH}}  {text}"
