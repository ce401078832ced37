"""Addresses: host and port as one text, as it appears in a status and in a URL. Pure."""


def host_port(host: str, port: int | str) -> str:
    """Return `host:port`; an IPv6 address in brackets, as RFC 3986 wants it in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
