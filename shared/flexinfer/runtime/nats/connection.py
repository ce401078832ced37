"""One connection to NATS: identity, what happens when it breaks, and raw calls of the JetStream API.

It reconnects for as long as the process lives (`max_reconnect_attempts=-1`): a component outlives any outage.
Password and certificate are read from their files for each attempt. nats-py gives a connection up at most
errors of the server (authorization, connection limits, ...): that ends the work which the connection was opened for
with NatsClosedError, and so the process, whose successor begins with the credentials of that moment. `error_cb` is
the only place where the server's refusals of a publish or a subscription show up.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import cast

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

from flexinfer.runtime.settings import NO_WEBSOCKET, is_websocket

log = logging.getLogger(__name__)
_RECONNECT_SECONDS = cast("int", 0.25)  # nats-py declares int and takes any number
_API_SECONDS = 5
_SAME_ERROR_SECONDS = 30.0
"""How often an error that repeats itself, as that of a wrong password does at each attempt, is logged."""


class StreamError(Exception):
    """The JetStream API rejected a call.

    `code` is its error code (10059: no such stream, 10071: stale writer).
    """

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NatsUnavailableError(Exception):
    """NATS does not answer."""


class NatsClosedError(Exception):
    """The server ended the connection with an error, and the client has given it up."""


class _ApiError(msgspec.Struct):
    description: str = ""
    err_code: int = 0


class ApiReply(msgspec.Struct):
    """A reply of the JetStream API, reduced to the fields that are read; each is set by some calls only."""

    error: _ApiError | None = None
    config: Mapping[str, object] = {}
    """A stream's configuration."""
    created: str = ""
    """When the stream was created, RFC 3339."""
    ts: str = ""
    """The server's time, RFC 3339."""
    num_pending: int = 0
    delivered: Mapping[str, int | str] = {}


class Connection:
    """A connection, and the listeners for when it breaks or returns."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._listeners: list[Callable[[bool], None]] = []
        self._timeouts: set[asyncio.Timeout] = set()
        self._last_error, self._logged_at = "", 0.0
        self._owner: asyncio.Task[object] | None = None
        self._ended = ""

    @property
    def up(self) -> bool:
        """Whether NATS is connected."""
        return bool(self.client.is_connected)

    def notify(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Call listener(up) at every change; returns what removes it. A listener must not block."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def changed(self, *, up: bool) -> None:
        """Call the listeners; requests in flight on a broken connection time out at once."""
        now = asyncio.get_running_loop().time()
        for timeout in () if up else tuple(self._timeouts):
            if not timeout.expired():
                timeout.reschedule(now)
        for listener in tuple(self._listeners):
            listener(up)

    async def disconnected(self) -> None:
        """Handle a broken connection; nats-py reconnects by itself."""
        if not self.client.is_closed:
            log.warning("NATS is unavailable: reconnecting")
        self.changed(up=False)

    async def reconnected(self) -> None:
        """Handle a new connection."""
        log.info("NATS is connected again")
        self.changed(up=True)

    async def closed(self) -> None:
        """Handle a connection that the client has given up: end the work that it was opened for."""
        if self._owner is None:  # it ends anyway
            return
        self._ended = str(self.client.last_error or "without an error").removeprefix("nats: ")
        log.critical(
            "NATS closed the connection of %s: %s; the process ends, and its successor reads the credentials again",
            self.name,
            self._ended,
        )
        self._owner.cancel()

    async def failed(self, error: Exception) -> None:
        """Log an error of the client or the server; one that repeats itself every 30 s."""
        text, now = str(error) or type(error).__name__, asyncio.get_running_loop().time()
        if text != self._last_error or now - self._logged_at > _SAME_ERROR_SECONDS:
            log.warning("NATS: %s", text)
            self._last_error, self._logged_at = text, now

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Cancel the block when the client gives the connection up. Raises NatsClosedError then."""
        owner = asyncio.current_task()
        cancellations = owner.cancelling() if owner is not None else 0
        self._owner = owner
        try:
            yield
        except asyncio.CancelledError:
            if self._ended and owner is not None and owner.uncancel() <= cancellations:
                raise NatsClosedError(self._ended) from None
            raise
        finally:
            self._owner = None

    async def request(
        self, subject: str, body: bytes, *, seconds: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Return the reply to a request.

        Raises TimeoutError (at once if the connection breaks), NatsError or OSError. A cancellation that
        arrives together with the reply is honoured: `asyncio.wait_for` of Python 3.11, on which nats-py
        waits, drops it, and the caller's loop would then never end.
        """
        async with asyncio.timeout(seconds) as timeout:
            self._timeouts.add(timeout)
            try:
                reply = await self.client.request(subject, body, timeout=seconds, headers=headers)
            finally:
                self._timeouts.discard(timeout)
        _honour_cancellation()
        return reply

    async def round_trip(self) -> None:
        """Wait until the server has answered: what it had sent before has then arrived too.

        Raises NatsError without an answer, OSError. A cancellation is honoured as by `request`.
        """
        await self.client.flush(_API_SECONDS)
        _honour_cancellation()

    async def api(self, subject: str, body: object = None) -> ApiReply:
        """Call the JetStream API.

        Raises StreamError if it rejects the call, NatsUnavailableError without a reply.
        """
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            message = await self.request(f"$JS.API.{subject}", data, seconds=_API_SECONDS)
        except NoRespondersError as error:
            raise StreamError(f"{subject}: JetStream does not answer", 503) from error
        except (TimeoutError, NatsError, OSError) as error:
            raise NatsUnavailableError(f"{subject}: {type(error).__name__}") from error
        reply = msgspec.json.decode(message.data, type=ApiReply)
        if reply.error is not None:
            raise StreamError(f"{subject}: {reply.error.description}", reply.error.err_code)
        return reply


def _honour_cancellation() -> None:
    """Raise CancelledError if the current task was cancelled and the call that it waited for dropped that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def flush(client: Client) -> None:
    """Wait until the server has processed everything that was sent before, subscriptions included.

    Two round trips: nats-py writes the PING of its own `flush` ahead of the pending buffer, so the reply to the
    first says nothing about it (seen in `nats-server -DV`: PING, PONG, then SUB). Raises nats.errors.Error.
    """
    for _ in range(2):
        await client.flush()


class _Client(Client):
    """A client that reads the certificate of NATS' authority for each attempt to connect."""

    def __init__(self, ca_file: str) -> None:
        super().__init__()
        self._ca_file = ca_file

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Return what the server's certificate is verified by. Raises OSError, ssl.SSLError included."""
        return ssl.create_default_context(cafile=self._ca_file or None)


@contextlib.asynccontextmanager
async def connected(
    name: str, url: str, user: str, password_file: str, ca_file: str = "", *, server_name: str = ""
) -> AsyncIterator[Connection]:
    """Connect as a component; waits for the first connection for as long as it takes.

    `server_name` is the name that the certificate must have where `url` holds another one; empty: that of `url`.

    Raises OSError if one of the files cannot be read now or `url` is that of a WebSocket, ssl.SSLError if `ca_file` holds no certificate, and
    NatsClosedError in the block when the client gives the connection up.
    """
    if is_websocket(url):
        raise OSError(NO_WEBSOCKET)
    client = _Client(ca_file)
    connection = Connection(client, name)
    secret(password_file)
    await client.connect(
        url,
        name=name,
        inbox_prefix=f"_INBOX_{user or name}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_SECONDS,
        ping_interval=10,
        max_outstanding_pings=2,
        disconnected_cb=connection.disconnected,
        reconnected_cb=connection.reconnected,
        closed_cb=connection.closed,
        error_cb=connection.failed,
        allow_reconnect=True,
        user=user or None,
        password=(lambda: secret(password_file)) if user else None,
        tls=client.ssl_context if ca_file else None,
        tls_hostname=server_name or None,
    )
    try:
        with connection.owned():
            yield connection
    finally:
        with contextlib.suppress(NatsError, OSError, asyncio.TimeoutError):
            await client.flush(timeout=1)
        await _close(client)


async def _close(client: Client) -> None:
    """Close a connection, whose server may have closed it first.

    While nats-py reconnects it cancels its own wait for the former transport, and raises that here: it is not a cancellation of the caller.
    """
    try:
        await client.close()
    except OSError:
        return
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


def secret(path: str) -> str:
    """Return the content of a credential's file without surrounding space; empty without a path.

    Raises OSError.
    """
    return Path(path).read_text().strip() if path else ""


def server_time(stamp: str) -> datetime:
    """Return a time of the server (RFC 3339 with any number of decimals, UTC). Raises ValueError."""
    whole, _, decimals = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(decimals + '000000')[:6]}+00:00")
