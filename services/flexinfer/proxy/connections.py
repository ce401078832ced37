"""Connections to engines: kept for a moment between requests, and never at the cost of one.

An engine closes an idle connection when it likes. One that it has closed is not used; when it closes while a request is on its
way, the request is sent again on another connection if the engine's kernel acknowledged no byte of it before the end of the
stream: what it never received it cannot have begun.
"""

import contextlib
import errno
import os
import socket
import struct
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

IDLE_SECONDS = 3.0
"""How long a connection may be idle and be used again. llama.cpp and uvicorn close one after 5 s."""
_KEEPALIVE = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3}
"""Seconds and probes after which a node that vanished without a word has closed its connections."""
_BYTES_ACKED = struct.Struct("=120xQ")
"""Where tcpi_bytes_acked is in Linux' struct tcp_info (include/uapi/linux/tcp.h)."""


class NotTakenError(aiohttp.ClientConnectionError):
    """The engine closed a connection, and took nothing of the request: it may be sent again, at once if the connection was used before."""

    def __init__(self, message: str, *, used: bool) -> None:
        super().__init__(message)
        self.used = used


class ClosedError(aiohttp.ClientConnectionError):
    """The engine closed a connection that was used before; whether it took the request is not known."""


class Use:
    """A connection for a request: what its engine has acknowledged of it, and whether it was used before."""

    def __init__(self, connection: Connection, *, used: bool) -> None:
        self.used = used
        transport = connection.transport
        original = transport.get_extra_info("socket") if transport is not None else None
        self._socket = socket.socket(fileno=os.dup(original.fileno())) if original is not None else None
        self._acked = self._acknowledged()

    def close(self) -> None:
        """Close this view of the connection, not the connection."""
        if self._socket is not None:
            self._socket.close()

    def ended(self) -> bool:
        """Return whether the engine has closed the connection, or sent something before it was asked."""
        if self._socket is None:
            return True
        try:
            self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def judge(self, error: Exception) -> Exception:
        """Return what a connection that broke before any response means for the request.

        The end of a stream acknowledges what was received before it, a reset does not. EPIPE is a reset after the end; an error of aiohttp
        without a number says that the end was seen before the request was written, as in a proxy that was suspended.
        """
        ended = isinstance(error, aiohttp.ServerDisconnectedError) or _number(error) in (None, errno.EPIPE)
        acked_bytes, message = self._acknowledged(), str(error) or type(error).__name__
        if ended and acked_bytes is not None and acked_bytes == self._acked:
            return NotTakenError(message, used=self.used)
        return ClosedError(message) if self.used else error

    def _acknowledged(self) -> int | None:
        """Return how many bytes the peer has acknowledged; None where the system does not say."""
        if self._socket is None or not hasattr(socket, "TCP_INFO"):
            return None
        with contextlib.suppress(OSError, struct.error):
            info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_ACKED.size)
            return int(_BYTES_ACKED.unpack(info)[0])
        return None


def _number(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None


class EngineResponse(aiohttp.ClientResponse):
    """A response that knows its connection."""

    use: Use | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the head of the response; raises NotTakenError, and ClosedError if the engine closed a used connection."""
        use = self.use
        try:
            return await super().start(connection)
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            outcome = use.judge(error) if use is not None else error
            if outcome is error:
                raise
            raise outcome from error
        finally:
            if use is not None:
                use.close()


class EngineRequest(aiohttp.ClientRequest):
    """A request that knows its connection."""

    use: Use | None = None

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Send the request; its response raises NotTakenError, and ClosedError if the engine closed a used connection."""
        try:
            response = await super().send(conn)
        except BaseException:
            if self.use is not None:
                self.use.close()
            raise
        if isinstance(response, EngineResponse):
            response.use = self.use
        return response


class EngineConnector(aiohttp.TCPConnector):
    """Makes connections that notice a node that is gone, and reuses only those that their engine has not closed."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=IDLE_SECONDS, socket_factory=_engine_socket)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 -- as aiohttp calls it
    ) -> Connection:
        """Return a connection to the engine."""
        while True:
            connection = await super().connect(req, traces, timeout)
            use = Use(connection, used=self._was_used(connection.protocol))
            if not (use.used and use.ended()):
                if isinstance(req, EngineRequest):
                    req.use = use
                else:
                    use.close()
                return connection
            use.close()
            connection.close()

    def _was_used(self, protocol: ResponseHandler | None) -> bool:
        """Return whether a connection was used before, and note that it is used now."""
        if protocol is None or protocol in self._used:
            return protocol is not None
        self._used.add(protocol)
        return False


def _engine_socket(address: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, _ = address
    engine = socket.socket(family, kind, protocol)
    engine.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            engine.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return engine
