"""Addresses as they are in URLs."""

import pytest

from flexinfer.api.address import host_port


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("127.0.0.9", "127.0.0.9:8080"),
        ("fd00::9", "[fd00::9]:8080"),
        ("engine.default.svc", "engine.default.svc:8080"),
    ],
)
def test_only_an_ipv6_address_stands_in_brackets(host: str, text: str) -> None:
    """RFC 3986, 3.2.2."""
    assert host_port(host, 8080) == text
