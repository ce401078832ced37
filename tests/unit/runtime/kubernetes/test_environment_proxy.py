"""proxy_for: which proxy an environment names for a URL, as kubectl reads it."""

import pytest

from flexinfer.runtime.kubernetes.environment_proxy import proxy_for

PROXY = "http://proxy.example:3128"
SERVER = "https://api.example.com:6443"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:7401",
        "https://localhost:7401",
        "https://[::1]:7401",
        "http://127.8.9.1",
        "https://localhost.",
    ],
)
def test_this_machine_is_never_asked_through_a_proxy(url: str) -> None:
    """Whatever NO_PROXY says."""
    assert proxy_for(url, {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY}) == ""


def test_the_scheme_chooses_the_variable() -> None:
    """In capitals or not; a proxy without a scheme is an HTTP proxy; ALL_PROXY is not read, as by kubectl."""
    assert proxy_for(SERVER, {"HTTPS_PROXY": PROXY}) == PROXY
    assert proxy_for(SERVER, {"https_proxy": "proxy.example:3128"}) == PROXY
    assert proxy_for("http://api.example.com", {"HTTPS_PROXY": PROXY}) == ""
    assert proxy_for("http://api.example.com", {"http_proxy": PROXY}) == PROXY
    assert proxy_for(SERVER, {"ALL_PROXY": PROXY}) == ""
    assert proxy_for(SERVER, {}) == ""


@pytest.mark.parametrize(
    "exceptions",
    [
        "*",
        "api.example.com",
        "example.com",
        ".example.com",
        "*.example.com",
        "other, Example.COM:6443",
        "other,api.example.com",
    ],
)
def test_a_host_of_no_proxy_is_asked_directly(exceptions: str) -> None:
    """A domain covers itself and what is below it; a port restricts an entry."""
    assert proxy_for(SERVER, {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}) == ""


@pytest.mark.parametrize(
    "exceptions",
    ["", "ple.com", "api.example.com:443", "10.0.0.0/8", "10.0.0.0/99", ".api.example.com", ",,"],
)
def test_another_host_is_asked_through_the_proxy(exceptions: str) -> None:
    """A part of a label is no domain, and a network that is none covers nothing."""
    assert proxy_for(SERVER, {"HTTPS_PROXY": PROXY, "no_proxy": exceptions}) == PROXY


@pytest.mark.parametrize(
    ("url", "exceptions", "direct"),
    [
        ("https://10.1.2.3:6443", "10.0.0.0/8", True),
        ("https://10.1.2.3:6443", "192.168.0.0/16, 10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3:6443", "10.1.2.3:443", False),
        ("https://11.1.2.3:6443", "10.0.0.0/8", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://[fe80::1]:6443", "fd00::/8", False),
    ],
)
def test_addresses_and_networks_of_no_proxy(url: str, exceptions: str, *, direct: bool) -> None:
    """Networks in CIDR form, which most libraries for Python do not read."""
    assert proxy_for(url, {"HTTPS_PROXY": PROXY, "NO_PROXY": exceptions}) == ("" if direct else PROXY)
