"""environment_proxy: the proxy that an environment names for a URL, by the rules of kubectl. Pure.

Those rules are Go's (golang.org/x/net/http/httpproxy): HTTP_PROXY and HTTPS_PROXY by the scheme of the URL, in capitals or not, and
NO_PROXY as a list of hosts, domains, addresses and networks such as 10.0.0.0/8, each with a port or without, or `*`. This machine
itself (localhost, 127.0.0.0/8, ::1) is never asked through a proxy.
"""

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

_PORTS = {"http": "80", "https": "443"}


def proxy_for(url: str, environment: Mapping[str, str]) -> str:
    """Return the URL of the proxy for a URL; empty: none."""
    parts = urlsplit(url)
    proxy = _variable(environment, f"{parts.scheme}_proxy")
    host, port = (parts.hostname or "").rstrip("."), str(parts.port or _PORTS.get(parts.scheme, ""))
    if not proxy or _is_this_machine(host):
        return ""
    exceptions = _variable(environment, "no_proxy").split(",")
    if any(_matches(entry.strip().lower(), host, port) for entry in exceptions):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name.upper()) or environment.get(name, "")


def _is_this_machine(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _matches(entry: str, host: str, port: str) -> bool:
    """Return whether an entry of NO_PROXY covers a host at a port."""
    if not entry:
        return False
    if entry == "*":
        return True
    address = _address(host)
    if "/" in entry:
        return address is not None and _in_network(address, entry)
    name, its_port = _split(entry)
    if its_port and its_port != port:
        return False
    if (rule := _address(name)) is not None:
        return rule == address
    domain = name.removeprefix("*").rstrip(".")
    return host == domain or host.endswith(domain if domain.startswith(".") else f".{domain}")


def _split(entry: str) -> tuple[str, str]:
    """Return host and port of an entry; the port is empty if it has none."""
    if _address(entry) is not None:
        return entry, ""
    host, colon, port = entry.rpartition(":")
    return (host.strip("[]"), port) if colon else (entry.strip("[]"), "")


def _in_network(address: ipaddress.IPv4Address | ipaddress.IPv6Address, entry: str) -> bool:
    try:
        network = ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
    return address in network


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
