"""Paths: one form for the proxy and for engines."""

import pytest

from flexinfer.proxy import paths
from flexinfer.proxy.errors import RequestError


@pytest.mark.parametrize(
    ("sent", "normalised"),
    [
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("//v1///chat/completions//", "/v1/chat/completions"),
        ("/v1/chat%2Fcompletions", "/v1/chat/completions"),
        ("/v1%2f%2Fmodels%2f", "/v1/models"),
        ("/object_info/Load%20VAE", "/object_info/Load VAE"),
        ("/", "/"),
        ("", "/"),
    ],
)
def test_a_path_is_decoded_once_and_has_no_empty_segments(sent: str, normalised: str) -> None:
    """What is compared is what is sent."""
    assert paths.normalise(sent) == normalised


@pytest.mark.parametrize(
    "sent",
    [
        "/v1/../slots",
        "/v1/%2e%2e/slots",
        "/v1/%2E./slots",
        "/v1/..%2fslots",
        "/v1/%2e/models",
        "/history/a%2F..%2F..%2Fslots",
        "/..",
        "/v1/%00",
        "/v1/%ff",
        "/v1/\udcff",
        "/v1/a%0d%0aX-A:b",
    ],
)
def test_a_path_that_leaves_itself_or_is_no_text_is_a_400(sent: str) -> None:
    """However it is written."""
    with pytest.raises(RequestError) as raised:
        paths.normalise(sent)
    assert (raised.value.status, raised.value.code) == (400, "invalid_path")


@pytest.mark.parametrize("path", ["/history/%2e%2e/slots", "/history/..\\slots", "/history/..;/slots"])
def test_a_path_that_another_server_would_read_differently_is_not_plain(path: str) -> None:
    """One that decodes twice, takes a backslash for a slash, or cuts parameters off."""
    assert not paths.is_plain(path)


@pytest.mark.parametrize(
    "path", ["/v1/chat/completions", "/object_info/Load VAE (x)", "/history/é", "/a?b#c"]
)
def test_an_encoded_path_is_the_same_path(path: str) -> None:
    """And can be part of a request line."""
    assert paths.normalise(paths.encode(path)) == path
    assert not set(" ?#") & set(paths.encode(path))
