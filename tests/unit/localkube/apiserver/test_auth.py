"""Who may ask."""

from pathlib import Path

import pytest

from localkube.apiserver.auth import Anonymous, Gate, gate
from localkube.apiserver.errors import ApiError

GATE = Gate("right")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_anybody_may_ask_whether_it_is_alive(path: str) -> None:
    """A supervisor's probe has no token."""
    GATE.check(path, {})


@pytest.mark.parametrize("header", ["Bearer right", "bearer right", "Bearer  right"])
def test_the_token_opens(header: str) -> None:
    """The scheme is not case-sensitive."""
    GATE.check("/api", {"Authorization": header})


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer rightx", "Basic right", "right", "Bearer \udcff"]
)
@pytest.mark.parametrize("path", ["/api", "/healthz/../api", "/version", "/"])
def test_without_the_token_everything_else_is_401(path: str, header: str | None) -> None:
    """Anonymous requests get nothing, not even discovery."""
    with pytest.raises(ApiError) as refused:
        GATE.check(path, {} if header is None else {"Authorization": header})
    assert (refused.value.code, refused.value.reason) == (401, "Unauthorized")


def test_an_empty_token_file_opens_nothing(tmp_path: Path) -> None:
    """Else whoever sends an empty token would be in."""
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        gate(tmp_path / "token")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"])
def test_without_tls_every_local_program_is_let_through(host: str) -> None:
    """A token does not travel over plain HTTP: kubectl sends none."""
    Anonymous().check("/api", {"Host": host})


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example:8080"}, id="a name rebound to loopback"),
        pytest.param({"Host": "127.0.0.1:8080", "Origin": "https://evil.example"}, id="across sites"),
    ],
)
def test_without_tls_a_web_page_is_kept_out(headers: dict[str, str]) -> None:
    """A page in the user's browser must not create Pods."""
    with pytest.raises(ApiError) as refused:
        Anonymous().check("/api", headers)
    assert refused.value.code == 403
