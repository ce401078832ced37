"""Chunked lists: continue tokens, and the revision that all chunks of a list share.

Like apiserver/pkg/storage/continue.go.
"""

import base64
from dataclasses import dataclass
from typing import Final

import msgspec

from localkube.apiserver.errors import bad_request, expired
from localkube.apiserver.requests import Query
from localkube.apiserver.watch_cache import Key

TOO_OLD: Final = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the "
    "continue parameter."
)


class _Token(msgspec.Struct, frozen=True):
    v: str
    rv: int
    start: Key


@dataclass(frozen=True, slots=True)
class Page:
    """One chunk of a list: its revision, and the key that it starts at (None: the first)."""

    revision: int
    start: Key | None = None

    @classmethod
    def of(cls, query: Query, latest: int) -> "Page":
        """Return the page that a query asks for, the first one without a continue token.

        Raises ApiError 400 for a token that cannot be decoded, 410 for one of a revision later than `latest`.
        """
        if not query.continue_token:
            return cls(latest)
        try:
            token = msgspec.json.decode(base64.urlsafe_b64decode(query.continue_token), type=_Token)
        except (ValueError, msgspec.MsgspecError) as error:
            raise bad_request(f"continue key is not valid: {error}") from error
        if token.rv > latest:
            raise expired(TOO_OLD)
        return cls(token.rv, token.start)

    def start_in(self, keys: list[Key]) -> int:
        """Return the index in sorted keys at which the page starts."""
        if self.start is None:
            return 0
        return next((index for index, key in enumerate(keys) if key >= self.start), len(keys))


def continue_token(revision: int, start: Key) -> str:
    """Return the continue token of the page that starts at a key."""
    token = _Token("meta.k8s.io/v1", revision, start)
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()
