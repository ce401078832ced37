"""Authentication: one bearer token, or none on a server without TLS. Whether the server is alive may be asked without a token.

There is one user. Permissions per user (RBAC) belong to a real cluster.
"""

import hmac
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from localkube.apiserver.errors import ApiError

OPEN_PATHS = frozenset({"/healthz", "/livez", "/readyz"})
_SCHEME = "bearer"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]", ""})


class Authenticator(Protocol):
    """Decides whether a request is let through."""

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise ApiError 401 or 403 if it is not."""
        ...


class Gate:
    """Lets requests with the right token through."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the token is empty")
        self._token = token.encode()

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise a 401 unless the path is open to all or the header holds the token; takes the same time for any wrong one."""
        if path in OPEN_PATHS:
            return
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != _SCHEME or not right:
            raise ApiError(401, "Unauthorized", "Unauthorized")


class Anonymous:
    """Lets every local program through: for a server without TLS, to which kubectl sends no token.

    Web pages are kept out: a browser sends `Origin` with a request across sites, and a page that rebinds its name to loopback sends
    its own name as `Host`.
    """

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise a 403 for a request of a web page."""
        if path in OPEN_PATHS:
            return
        host = headers.get("Host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in _LOOPBACK or "Origin" in headers:
            raise ApiError(
                403, "Forbidden", f"requests of web pages are refused (Host {host!r}): use 127.0.0.1"
            )


def gate(token_file: Path) -> tuple[Gate, str]:
    """Return a gate for the token in a file, and the token. Raises ValueError if it is empty, OSError if it cannot be read."""
    token = token_file.read_text().strip()
    return Gate(token), token
