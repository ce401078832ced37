"""CORS: which web pages may use the proxy."""

import pytest

from flexinfer.proxy.cors import Cors

PAGE = "https://chat.example.com"


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("*", PAGE),
        ("*", "null"),
        (PAGE, PAGE),
        (f"{PAGE}/", PAGE),
        (f"http://a, {PAGE}", PAGE),
        ("http://localhost:*", "http://localhost:3000"),
        ("http://[::1]:*", "http://[::1]:3000"),
        ("https://*.example.com", PAGE),
        ("null", "null"),
    ],
)
def test_an_origin_that_is_allowed_may_read_answers(allowed: str, origin: str) -> None:
    """By itself, or by a pattern for a part of its host or for its port."""
    assert Cors(allowed).headers(origin)["Access-Control-Allow-Origin"] in {"*", origin}


@pytest.mark.parametrize(
    ("allowed", "origin"),
    [
        ("", PAGE),
        (PAGE, "https://chat.example.com.evil.net"),
        (PAGE, "https://chatXexample.com"),
        ("https://*.example.com", "https://evil.net/.example.com"),
        ("http://localhost:*", "http://localhost.evil.net"),
        (PAGE, ""),
        (PAGE, "null"),
    ],
)
def test_any_other_origin_gets_no_header_that_lets_it_read(allowed: str, origin: str) -> None:
    """A name is not a pattern but for its `*`."""
    assert "Access-Control-Allow-Origin" not in Cors(allowed).headers(origin)


def test_an_answer_that_depends_on_the_origin_says_so_to_caches() -> None:
    """Also the one to a page that is not allowed."""
    assert Cors(PAGE).headers(PAGE)["Vary"] == Cors(PAGE).headers("http://other")["Vary"] == "Origin"
    assert "Vary" not in Cors("*").headers(PAGE)


def test_a_preflight_is_answered_with_what_the_page_asked_for() -> None:
    """`*` would not cover Authorization."""
    answer = Cors("*").preflight(
        {
            "Access-Control-Request-Headers": "authorization, x-stainless-os",
            "Access-Control-Request-Private-Network": "true",
        }
    )
    assert answer["Access-Control-Allow-Headers"] == "authorization, x-stainless-os"
    assert "POST" in answer["Access-Control-Allow-Methods"]
    assert answer["Access-Control-Allow-Private-Network"] == "true"
    odd = Cors("*").preflight({"Access-Control-Request-Headers": "\udcff"})
    assert odd["Access-Control-Allow-Headers"] == "Authorization, *"
