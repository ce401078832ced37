"""Authentication: one bearer token, or, on a server without TLS, every local program.

Health checks need no token. There is one user and no authorization: permissions per user (RBAC) belong to a
real cluster.
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
    """Decides whether a request is served."""

    def authenticate(self, path: str, headers: Mapping[str, str]) -> None:
        """Return if the request may be served. Raises ApiError 401 or 403."""
        ...


class TokenAuthenticator:
    """Accepts requests with the right bearer token. Raises ValueError if the token is empty."""

    def __init__(self, token: str) -> None:
        if not token:
            raise ValueError("the token is empty")
        self._token = token.encode()

    def authenticate(self, path: str, headers: Mapping[str, str]) -> None:
        """Check the Authorization header, except on health checks. Raises ApiError 401.

        Any wrong token takes the same time to refuse.
        """
        if path in OPEN_PATHS:
            return
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        matches = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token)
        if scheme.lower() != _SCHEME or not matches:
            raise ApiError(401, "Unauthorized", "Unauthorized")


class LoopbackAuthenticator:
    """Accepts every local program: for a server without TLS, to which kubectl sends no token.

    Web pages are refused, else any page in the user's browser could create Pods: a browser sends `Origin`
    with a cross-site request, and a page that rebinds its DNS name to loopback sends that name as `Host`.
    """

    def authenticate(self, path: str, headers: Mapping[str, str]) -> None:
        """Check the Host and Origin headers, except on health checks. Raises ApiError 403."""
        if path in OPEN_PATHS:
            return
        host = headers.get("Host", "")
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in _LOOPBACK or "Origin" in headers:
            raise ApiError(
                403, "Forbidden", f"requests of web pages are refused (Host {host!r}): use 127.0.0.1"
            )


def refuse_impersonation(headers: Mapping[str, str]) -> None:
    """Raise ApiError 403 for a request in the name of another user (`kubectl --as`): without RBAC it would be granted everything."""
    user = headers.get("Impersonate-User")
    if user is not None:
        raise ApiError(
            403,
            "Forbidden",
            f"the local API does not impersonate {user}: it has no RBAC, and a client with its token may do "
            "everything; to test rights use --api real or a cluster",
        )


def health(path: str, *, verbose: bool) -> str:
    """Return the answer of a health check; `verbose` lists what was checked, as `kubectl get --raw /livez?verbose` shows it."""
    return f"[+]ping ok\n{path[1:]} check passed\n" if verbose else "ok"


def read_token(token_file: Path) -> tuple[TokenAuthenticator, str]:
    """Return an authenticator for the token in a file, and the token.

    Raises ValueError if the file is empty, OSError if it cannot be read.
    """
    token = token_file.read_text().strip()
    return TokenAuthenticator(token), token
