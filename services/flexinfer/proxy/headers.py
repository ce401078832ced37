"""Headers: which of a client's reach an engine, and which of an engine's reach a client. Pure.

An engine gets what it needs to read the request, by an allow-list: nothing that says who the client is or carries its secrets. A
client gets what the engine says of its response, except what concerns one connection alone, the engine's own server, or other
requests than this one.
"""

import re
from collections.abc import Mapping

from multidict import CIMultiDict, CIMultiDictProxy

from flexinfer.proxy import errors

TO_ENGINES = frozenset(
    {
        "accept",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "content-type",
        "idempotency-key",
        "openai-beta",
        "traceparent",
        "tracestate",
        "x-correlation-id",
        "x-request-id",
    }
)
_HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_TO_CLIENTS = _HOP_BY_HOP | {
    "alt-svc",
    "clear-site-data",
    "content-location",
    "forwarded",
    "location",
    "nel",
    "public-key-pins",
    "refresh",
    "report-to",
    "reporting-endpoints",
    "server",
    "set-cookie",
    "set-cookie2",
    "strict-transport-security",
    "via",
    "www-authenticate",
    "x-powered-by",
}
_CORS = "access-control-"
"""Which pages may read a response is for the proxy to say."""
_UNSENDABLE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")


def to_engine(source: Mapping[str, str]) -> dict[str, str]:
    """Return the headers for the engine; raises RequestError (400) for one that cannot be sent.

    The proxy has decoded the body, and the engine's response passes as it is: neither has an encoding.
    """
    options = _connection_options(source)
    headers = {k: v for k, v in source.items() if k.lower() in TO_ENGINES - options}
    for name, value in headers.items():
        if not _is_text(value):
            raise errors.invalid_header(name, "holds bytes that are not text; send it as UTF-8 or ASCII")
    return headers | {"Accept-Encoding": "identity", "User-Agent": "flexinfer-proxy"}


def to_client(source: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    """Return those headers of an engine that its client gets."""
    exclusions = _NOT_TO_CLIENTS | _connection_options(source)
    return CIMultiDict(
        (name, value)
        for name, value in source.items()
        if name.lower() not in exclusions and not name.lower().startswith(_CORS) and _is_text(value)
    )


def _connection_options(headers: Mapping[str, str]) -> frozenset[str]:
    """Return the names that the header Connection lists: they concern this connection alone (RFC 9110, 7.6.1)."""
    return frozenset(name.strip().lower() for name in headers.get("Connection", "").split(","))


def _is_text(value: str) -> bool:
    """Return whether a header can be sent on: neither bytes that were not UTF-8 when it arrived nor control characters."""
    return not _UNSENDABLE.search(value)
