"""The streams: created, brought up to date and, where the server can no longer store, deleted to be created again.

Only the watcher does this, by a connection of the one identity that may. What the streams hold is `state_writer`'s.
"""

import logging

import msgspec

from flexinfer.events import subjects
from flexinfer.runtime.nats.connection import ApiReply, Connection, NatsUnavailableError, StreamError

log = logging.getLogger(__name__)
_NO_STREAM, _PURGE_FAILED = 10059, 10051
_NANO = 1_000_000_000
_LIVE_SECONDS, _HISTORY_SECONDS = 30, 7 * 24 * 3600
_STORAGE: dict[str, dict[str, object]] = {
    subjects.STATE_STREAM: {
        "storage": "file",
        "max_msgs_per_subject": 1,
        "max_bytes": 1 << 30,
        "allow_msg_ttl": True,
    },
    subjects.LIVE_STREAM: {
        "storage": "memory",
        "max_msgs_per_subject": 1,
        "max_age": _LIVE_SECONDS * _NANO,
        "max_bytes": 1 << 26,
    },
    subjects.HISTORY_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO, "max_bytes": 1 << 28},
    subjects.DEAD_STREAM: {"storage": "file", "max_age": _HISTORY_SECONDS * _NANO, "max_bytes": 1 << 26},
}
_EXPIRY = "allow_msg_ttl"


class StateStreamInfo(msgspec.Struct, frozen=True):
    """When the state stream was created, and whether its messages may expire."""

    created: str
    deletions_expire: bool


class Streams:
    """The streams of an installation; `replicas` is set on those that are created."""

    def __init__(self, bootstrap: Connection, replicas: int) -> None:
        self._bootstrap, self._replicas = bootstrap, replicas

    async def ensure(self) -> StateStreamInfo:
        """Create what is missing. Raises StreamError, NatsUnavailableError."""
        infos = {name: await self._ensure(name) for name in subjects.STREAMS}
        state = infos[subjects.STATE_STREAM]
        expires = bool(state.config.get(_EXPIRY)) or await self._let_expire(state)
        return StateStreamInfo(state.created, expires)

    async def _ensure(self, name: str) -> ApiReply:
        config = {
            "name": name,
            "subjects": list(subjects.STREAMS[name]),
            "retention": "limits",
            "discard": "old",
            "num_replicas": self._replicas,
            **_STORAGE[name],
        }
        try:
            return await self._bootstrap.api(f"STREAM.INFO.{name}")
        except StreamError as error:
            if error.code != _NO_STREAM:
                raise
        info = await self._bootstrap.api(f"STREAM.CREATE.{name}", config)
        log.info("created the stream %s", name)
        return info

    async def _let_expire(self, info: ApiReply) -> bool:
        """Allow messages of a stream that was created without it to expire; returns whether they may now."""
        subject = f"STREAM.UPDATE.{subjects.STATE_STREAM}"
        error = await self._error_of(subject, {**info.config, _EXPIRY: True})
        if error is not None:
            log.warning("deletions stay in the stream %s: %s", subjects.STATE_STREAM, error)
        return error is None

    async def storage_error(self) -> str:
        """Return why the server cannot store into the state stream; empty if it can, or does not say.

        After a failed write nats-server (2.15) answers no publish to the stream until it restarts, also when there is
        room again. Neither a new configuration of the stream nor a reload of the server's nor a purge clears the
        error, but a purge of nothing is answered with it; deleting the stream does clear it.
        """
        nothing = {"filter": f"{subjects.ROOT}.model.none"}
        error = await self._error_of(f"STREAM.PURGE.{subjects.STATE_STREAM}", nothing)
        return str(error) if isinstance(error, StreamError) and error.code == _PURGE_FAILED else ""

    async def delete_state(self) -> None:
        """Delete the state stream, which holds nothing that the API server does not hold."""
        error = await self._error_of(f"STREAM.DELETE.{subjects.STATE_STREAM}", None)
        if error is not None:
            log.warning("the stream %s is not created again: %s", subjects.STATE_STREAM, error)

    async def _error_of(self, subject: str, body: object) -> StreamError | NatsUnavailableError | None:
        """Call the API; returns its error, no answer included: a user of an earlier release may not call it.

        Raises NatsUnavailableError while NATS is not connected.
        """
        try:
            await self._bootstrap.api(subject, body)
        except StreamError as error:
            return error
        except NatsUnavailableError as error:
            if not self._bootstrap.up:
                raise
            return error
        return None
