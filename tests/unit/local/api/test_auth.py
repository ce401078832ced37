"""Who may ask."""

from pathlib import Path

import pytest

from flexinfer.local.api.auth import Gate, gate
from flexinfer.local.api.errors import ApiError

GATE = Gate("right")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_anybody_may_ask_whether_it_is_alive(path: str) -> None:
    """A supervisor's probe has no token."""
    GATE.check(path, None)


@pytest.mark.parametrize("header", ["Bearer right", "bearer right", "Bearer  right"])
def test_the_token_opens(header: str) -> None:
    """The scheme is not case-sensitive."""
    GATE.check("/api", header)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer rightx", "Basic right", "right", "Bearer \udcff"]
)
@pytest.mark.parametrize("path", ["/api", "/healthz/../api", "/version", "/"])
def test_without_the_token_everything_else_is_401(path: str, header: str | None) -> None:
    """Anonymous requests get nothing, not even discovery."""
    with pytest.raises(ApiError) as refused:
        GATE.check(path, header)
    assert (refused.value.code, refused.value.reason) == (401, "Unauthorized")


def test_an_empty_token_file_opens_nothing(tmp_path: Path) -> None:
    """Else whoever sends an empty token would be in."""
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        gate(tmp_path / "token")
