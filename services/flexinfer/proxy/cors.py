"""CORS: which web pages may use the proxy (https://fetch.spec.whatwg.org/#http-cors-protocol). Pure.

A page's preflight request carries no key and is answered without one. A page that is not allowed gets no Access-Control-* header:
its browser then keeps the answer from it.
"""

import re
from collections.abc import Mapping

ANY = "*"
_MAX_AGE_SECONDS = 600
_TOKENS = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z, -]+")
"""A list of names of headers or methods (RFC 9110, 5.6.2)."""


class Cors:
    """The origins that are allowed: `*`, or patterns such as `https://chat.example.com` and `http://localhost:*`."""

    def __init__(self, origins: str) -> None:
        patterns = origins.replace(",", " ").split()
        self._any = ANY in patterns
        self._patterns = [_pattern(p) for p in patterns]

    def headers(self, origin: str) -> dict[str, str]:
        """Return the headers of every answer to a page of this origin; an empty one is no page."""
        if self._any:
            return {"Access-Control-Allow-Origin": ANY, "Access-Control-Expose-Headers": ANY}
        varies = {"Vary": "Origin"} if self._patterns else {}
        if not any(pattern.fullmatch(origin) for pattern in self._patterns):
            return varies
        return varies | {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ANY}

    def preflight(self, request_headers: Mapping[str, str]) -> dict[str, str]:
        """Return the further headers of an answer to a preflight request: what the page asked for."""
        headers = request_headers.get("Access-Control-Request-Headers", "")
        answer = {
            "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
            "Access-Control-Allow-Headers": headers if _TOKENS.fullmatch(headers) else "Authorization, *",
            "Access-Control-Max-Age": str(_MAX_AGE_SECONDS),
        }
        if request_headers.get("Access-Control-Request-Private-Network", "").lower() == "true":
            answer["Access-Control-Allow-Private-Network"] = "true"
        return answer


def is_preflight(method: str, headers: Mapping[str, str]) -> bool:
    """Return whether a browser asks what a page may send."""
    return method == "OPTIONS" and "Origin" in headers and "Access-Control-Request-Method" in headers


def _pattern(text: str) -> re.Pattern[str]:
    """Return what an allowed origin matches: `*` stands for a part of the host or for the port, all else for itself."""
    parts = [re.escape(part) for part in text.rstrip("/").split("*")]
    return re.compile(r"[A-Za-z0-9.-]*".join(parts), re.IGNORECASE)
