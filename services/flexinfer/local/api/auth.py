"""Who may ask: whoever shows this instance's token; anybody may ask whether the server is alive.

There is one user. Rights by service belong to a real cluster (its RBAC), not to this machine.
"""

import hmac
from pathlib import Path

from flexinfer.local.api.errors import ApiError

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
_SCHEME = "bearer"


class Gate:
    """Lets requests with the right token through."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the token is empty")
        self._token = token.encode()

    def check(self, path: str, authorization: str | None) -> None:
        """Raise a 401 unless the path is open to all or the header holds the token; takes the same time for any wrong one."""
        if path in OPEN_PATHS:
            return
        scheme, _, token = (authorization or "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != _SCHEME or not right:
            raise ApiError(401, "Unauthorized", "Unauthorized")


def gate(token_file: Path) -> tuple[Gate, str]:
    """Return a gate for the token in a file, and the token."""
    token = token_file.read_text().strip()
    return Gate(token), token
