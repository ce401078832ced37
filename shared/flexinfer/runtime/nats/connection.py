"""One connection to NATS: who we are, what happens when it breaks, and raw calls of the JetStream API.

`max_reconnect_attempts=-1`: a service outlives any outage. `error_cb` is where the server's refusals show up, and nowhere else.
"""

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError

log = logging.getLogger(__name__)
_RECONNECT_SECONDS: Any = 0.25  # nats-py says int and takes any number
_API_SECONDS = 5.0


class StreamError(Exception):
    """The JetStream API said no; `code` is its error code (10059: no such stream, 10071: stale writer)."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class NatsUnavailableError(Exception):
    """NATS does not answer."""


class Connection:
    """A connection and whoever wants to know that it broke or came back."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name
        self._listeners: list[Callable[[bool], None]] = []
        self._asking: set[asyncio.Timeout] = set()

    @property
    def up(self) -> bool:
        """Whether the connection stands now."""
        return bool(self.client.is_connected)

    def notify(self, listener: Callable[[bool], None]) -> Callable[[], None]:
        """Call listener(up) at every change; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def changed(self, *, up: bool) -> None:
        """Tell the listeners, and those who wait for an answer that will not come."""
        now = asyncio.get_running_loop().time()
        for deadline in () if up else tuple(self._asking):
            if not deadline.expired():
                deadline.reschedule(now)
        for listener in tuple(self._listeners):
            listener(up)

    async def request(
        self, subject: str, body: bytes, *, patience: float, headers: dict[str, str] | None = None
    ) -> Msg:
        """Ask; TimeoutError at once when the connection breaks, since the answer died with it.

        A cancellation that arrives together with the answer is heeded: `asyncio.wait_for` of Python 3.11, on which nats-py waits, drops
        it, and a loop would then run on for ever.
        """
        async with asyncio.timeout(patience) as deadline:
            self._asking.add(deadline)
            try:
                reply = await self.client.request(subject, body, timeout=patience, headers=headers)
            finally:
                self._asking.discard(deadline)
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        return reply

    async def api(self, subject: str, body: Any = None) -> dict[str, Any]:
        """Ask the JetStream API; StreamError when it refuses, BusAwayError when nobody answers."""
        data = b"" if body is None else msgspec.json.encode(body)
        try:
            reply = await self.request(f"$JS.API.{subject}", data, patience=_API_SECONDS)
        except NoRespondersError as error:
            raise StreamError(f"{subject}: JetStream does not answer", 503) from error
        except (TimeoutError, NatsError, OSError) as error:
            raise NatsUnavailableError(f"{subject}: {type(error).__name__}") from error
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" in answer:
            told = answer["error"]
            raise StreamError(f"{subject}: {told.get('description', '')}", int(told.get("err_code", 0)))
        return answer


@contextlib.asynccontextmanager
async def connected(
    name: str, url: str, user: str, password_file: str, ca_file: str = ""
) -> AsyncIterator[Connection]:
    """Connect as a service; waits for the first connection for as long as it takes."""
    client = Client()
    connection = Connection(client, name)

    async def lost() -> None:
        if not client.is_closed:
            log.warning("NATS is away")
        connection.changed(up=False)

    async def back() -> None:
        log.info("NATS is back")
        connection.changed(up=True)

    async def failed(error: Exception) -> None:
        log.warning("NATS: %s", error or type(error).__name__)

    options: dict[str, Any] = {"user": user, "password": secret(password_file)} if user else {}
    if ca_file:
        options["tls"] = ssl.create_default_context(cafile=ca_file)
    await client.connect(
        url,
        name=name,
        inbox_prefix=f"_INBOX_{user or name}",
        max_reconnect_attempts=-1,
        reconnect_time_wait=_RECONNECT_SECONDS,
        ping_interval=10,
        max_outstanding_pings=2,
        disconnected_cb=lost,
        reconnected_cb=back,
        error_cb=failed,
        allow_reconnect=True,
        **options,
    )
    try:
        yield connection
    finally:
        with contextlib.suppress(NatsError, OSError, asyncio.TimeoutError):
            await client.flush(timeout=1)
        with contextlib.suppress(OSError):  # the server went first: who is leaving does not mind
            await client.close()


def secret(path: str) -> str:
    """Read a credential from its file."""
    return Path(path).read_text().strip() if path else ""


def server_time(stamp: str) -> datetime:
    """Read a time of the server, of any number of decimals."""
    whole, _, decimals = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}.{(decimals + '000000')[:6]}+00:00")
