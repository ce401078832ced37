"""`flexinfer tap`: the steps of Models as they happen, one readable line each; by subject, every other event on NATS.

A plain subscription of a read-only user: it changes nothing. Without a subject, the latest recorded steps come first, as `tail -f` prints
the end of a file; with `--history`, all of the last 7 days.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import re
import signal
import stat
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from flexinfer.cli import reach
from flexinfer.cli.errors import CommandError, UnreachableError
from flexinfer.cli.port_forward import PortForward
from flexinfer.cli.reach import NatsServer
from flexinfer.cli.sentences import raw, sentence
from flexinfer.cli.target import target_arguments
from flexinfer.events import codec
from flexinfer.events.subjects import HISTORY_STREAM, ROOT
from flexinfer.runtime.nats import connection
from flexinfer.runtime.nats.connection import Connection, StreamError, flush
from flexinfer.runtime.nats.consumer import OrderedConsumer, ReplayRequiredError

EVERYTHING, HISTORY = f"{ROOT}.>", f"{ROOT}.history.>"
_CONNECT_SECONDS, _WATCH_SECONDS = 5.0, 0.5
_SUBJECT_WIDTH = 46
_LATEST = 20
"""How many recorded steps are printed first."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add a subject, --history, and where NATS is."""
    parser.add_argument(
        "subject",
        nargs="?",
        default="",
        help=f"subject to subscribe to, such as {EVERYTHING} for all (default: the steps, {HISTORY})",
    )
    parser.add_argument("--history", action="store_true", help="print all steps of the last 7 days first")
    target_arguments(parser)


def run(options: argparse.Namespace) -> int:
    """Print events until interrupted, or until its reader is gone. Raises CommandError, BrokenPipeError."""
    if options.subject and not re.fullmatch(r"[^\s\0]+", options.subject):
        raise CommandError(f"{options.subject!r} is not a subject, such as {EVERYTHING}")
    latest = 0 if options.subject else _LATEST
    try:
        with reach.nats(options) as server:
            asyncio.run(_tap(server, options.subject or HISTORY, None if options.history else latest))
    except (StreamError, ReplayRequiredError) as error:
        raise CommandError(str(error)) from error
    return 0


async def _tap(server: NatsServer, subject: str, latest: int | None) -> None:
    """Print the latest recorded steps, None: all, then what arrives.

    Raises BrokenPipeError once the reader is gone, CommandError for a subject that may not be read.
    """
    end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _end, end)
    async with connect_tap(server) as link:
        if latest != 0:
            steps = await recorded(link, HISTORY)
            _print(steps if latest is None else steps[-latest:])
        with _noticing_the_reader(end):

            async def show(message: Msg) -> None:
                try:
                    _print([line(datetime.now(UTC), message)])
                except BrokenPipeError as error:  # raised here it would be a line of the NATS client's log
                    _end(end, error)

            await link.client.subscribe(subject, cb=show)
            await flush(link.client)
            _require_readable(link, subject)
            async with _noticing_the_way(server.forward, end):
                await end


def _print(lines: Iterable[str]) -> None:
    for text in lines:
        print(text, flush=True)


def _end(end: asyncio.Future[None], error: Exception | None = None) -> None:
    if not end.done() and error is None:
        end.set_result(None)
    elif not end.done() and error is not None:
        end.set_exception(error)


@contextlib.contextmanager
def _noticing_the_reader(end: asyncio.Future[None]) -> Iterator[None]:
    """End when a pipe's reader is gone, as with `| head -1`, also while there is nothing to print.

    The writing end of a pipe is readable only then (poll(2), POLLERR).
    """
    loop, output = asyncio.get_running_loop(), sys.stdout.fileno()
    if not stat.S_ISFIFO(os.fstat(output).st_mode):
        yield
        return
    loop.add_reader(output, _end, end, BrokenPipeError())
    try:
        yield
    finally:
        loop.remove_reader(output)


@contextlib.asynccontextmanager
async def connect_tap(server: NatsServer) -> AsyncIterator[Connection]:
    """Connect as the tap. Raises CommandError if NATS does not answer or refuses the credentials."""
    place = urlsplit(server.url)
    async with contextlib.AsyncExitStack() as stack:
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, writer = await asyncio.open_connection(place.hostname, place.port)
                writer.close()
                with _quiet():
                    link = await stack.enter_async_context(_link(server))
        except (TimeoutError, OSError, NatsError) as error:
            raise UnreachableError(
                f"NATS at {place.hostname}:{place.port} does not answer, or refused the credentials; {server.remedy}",
                f"{place.hostname}:{place.port}",
            ) from error
        yield link


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the attempts to connect out of what a command prints: its error says how they ended."""
    logger = logging.getLogger(connection.__name__)
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False


def _link(server: NatsServer) -> contextlib.AbstractAsyncContextManager[Connection]:
    return connection.connected(
        "tap", server.url, server.user, server.password_file, server.ca_file, server_name=server.server_name
    )


def _require_readable(link: Connection, subject: str) -> None:
    """Raise CommandError if NATS has refused a subscription: it reports that before the reply to a flush."""
    error = link.client.last_error
    if error is not None and "permissions violation" in str(error).lower():
        raise CommandError(
            f"tap may not read {subject}: NATS refuses that subject to the user of this command; it reads {EVERYTHING}"
        )


@contextlib.asynccontextmanager
async def _noticing_the_way(forward: PortForward | None, end: asyncio.Future[None]) -> AsyncIterator[None]:
    """End when the port-forward does: the NATS client would try to connect to nothing."""

    async def watch(forward: PortForward) -> None:
        while not await asyncio.to_thread(forward.ended_by, _WATCH_SECONDS):
            pass
        _end(end, CommandError("the connection to NATS was closed"))

    watching = asyncio.create_task(watch(forward)) if forward is not None else None
    try:
        yield
    finally:
        if watching is not None:
            watching.cancel()


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
