"""A stream of the simulated JetStream: the last message of each subject, with sequences and an age limit."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

Headers = Mapping[str, str]


class StoredMessage(msgspec.Struct, frozen=True):
    """A message of a stream; `at` is when it was stored by the server's own clock, in seconds."""

    subject: str
    sequence: int
    at: float
    data: bytes
    headers: Headers
    time: datetime
    """`at` as a consumer is given it."""


class Stream:
    """One stream. In memory it is lost when the server ends; a file survives, or returns as an older copy."""

    def __init__(self, config: Mapping[str, Any], created: str, wall: Callable[[], float]) -> None:
        self.name, self.created, self.config = str(config["name"]), created, dict(config)
        self.broken = False
        """Whether the server has failed to store into it: it answers no publish until it is deleted."""
        self.in_memory = config.get("storage") == "memory"
        self._subjects = tuple(str(subject) for subject in config["subjects"])
        self._max_age = float(config.get("max_age", 0)) / 1e9
        self._wall = wall
        self.last = 0
        self._messages: dict[str, StoredMessage] = {}
        self._copies: list[tuple[int, dict[str, StoredMessage]]] = []

    def takes(self, subject: str) -> bool:
        """Return whether the stream keeps messages of a subject."""
        return any(matches(pattern, subject) for pattern in self._subjects)

    def sequence_of(self, subject: str) -> int:
        """Return the sequence of the last message of a subject; 0 if there is none."""
        message = self._messages.get(subject)
        return message.sequence if message is not None else 0

    def find(self, subject: str) -> StoredMessage | None:
        """Return the last message of a subject."""
        return self._messages.get(subject)

    def store(self, subject: str, data: bytes, headers: Headers) -> StoredMessage:
        """Store a message in place of the former one of its subject."""
        self.last += 1
        at = self._wall()
        message = StoredMessage(subject, self.last, at, data, headers, datetime.fromtimestamp(at, UTC))
        self._messages.pop(subject, None)
        self._messages[subject] = message
        if self.last % 10 == 0:
            self._copies = [*self._copies[-3:], (self.last, dict(self._messages))]
        return message

    def matching(self, pattern: str) -> Iterator[StoredMessage]:
        """Yield the messages that match a pattern in the order of their sequences."""
        oldest = self._wall() - self._max_age if self._max_age else float("-inf")
        for message in tuple(self._messages.values()):
            if message.at >= oldest and matches(pattern, message.subject):
                yield message

    def roll_back(self) -> None:
        """Return to an older copy, as when a volume is restored."""
        if self._copies:
            self.last, messages = self._copies[0]
            self._messages = dict(messages)


def matches(pattern: str, subject: str) -> bool:
    """Return whether a subject matches a pattern, of which only the last token may be a wildcard."""
    return subject.startswith(pattern[:-1]) if pattern.endswith(">") else pattern == subject
