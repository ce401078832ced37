"""Authentication: the bearer token, and local programs on a server without TLS."""

from pathlib import Path

import pytest

from localkube.apiserver.auth import (
    LoopbackAuthenticator,
    TokenAuthenticator,
    health,
    read_token,
    refuse_impersonation,
)
from localkube.apiserver.errors import ApiError

AUTHENTICATOR = TokenAuthenticator("right")


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/readyz"])
def test_health_checks_need_no_token(path: str) -> None:
    """A supervisor's probe has no token."""
    AUTHENTICATOR.authenticate(path, {})


@pytest.mark.parametrize("header", ["Bearer right", "bearer right", "Bearer  right"])
def test_the_right_token_is_accepted(header: str) -> None:
    """The scheme is not case-sensitive."""
    AUTHENTICATOR.authenticate("/api", {"Authorization": header})


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer wrong", "Bearer rightx", "Basic right", "right", "Bearer \udcff"]
)
@pytest.mark.parametrize("path", ["/api", "/healthz/../api", "/version", "/"])
def test_without_the_token_everything_else_is_401(path: str, header: str | None) -> None:
    """Anonymous requests get nothing, not even discovery."""
    with pytest.raises(ApiError) as refused:
        AUTHENTICATOR.authenticate(path, {} if header is None else {"Authorization": header})
    assert (refused.value.code, refused.value.reason) == (401, "Unauthorized")


def test_a_request_in_the_name_of_another_user_is_refused() -> None:
    """Without RBAC `kubectl --as` would be granted what a cluster forbids."""
    refuse_impersonation({"User-Agent": "kubectl"})
    with pytest.raises(ApiError, match="does not impersonate alice: it has no RBAC") as refused:
        refuse_impersonation({"Impersonate-User": "alice"})
    assert refused.value.code == 403


def test_a_verbose_health_check_lists_what_was_checked() -> None:
    """`kubectl get --raw /livez?verbose`; a supervisor reads `ok`."""
    assert health("/livez", verbose=True) == "[+]ping ok\nlivez check passed\n"
    assert health("/readyz", verbose=False) == "ok"


def test_an_empty_token_file_is_refused(tmp_path: Path) -> None:
    """Else an empty bearer token would be the right one."""
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="empty"):
        read_token(tmp_path / "token")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "localhost"])
def test_without_tls_every_local_program_is_accepted(host: str) -> None:
    """Kubectl sends no token over plain HTTP."""
    LoopbackAuthenticator().authenticate("/api", {"Host": host})


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Host": "evil.example:8080"}, id="DNS name rebound to loopback"),
        pytest.param({"Host": "127.0.0.1:8080", "Origin": "https://evil.example"}, id="cross-site"),
    ],
)
def test_without_tls_a_web_page_is_refused(headers: dict[str, str]) -> None:
    """A page in the user's browser must not create Pods."""
    with pytest.raises(ApiError) as refused:
        LoopbackAuthenticator().authenticate("/api", headers)
    assert refused.value.code == 403
