"""Expansion: kubelet's rules for `$(NAME)`."""

import pytest

from localkube.kubelet.variable_expansion import expand


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("--host=$(POD_IP)", "--host=127.64.0.1", id="a known name"),
        pytest.param("$(UNKNOWN)", "$(UNKNOWN)", id="an unknown name stays"),
        pytest.param("$$(POD_IP)", "$(POD_IP)", id="two dollars escape"),
        pytest.param("$$$(POD_IP)", "$127.64.0.1", id="an escaped dollar before a name"),
        pytest.param("$POD_IP ${POD_IP} $", "$POD_IP ${POD_IP} $", id="the shell's own syntax stays"),
        pytest.param("$(POD_IP", "$(POD_IP", id="an open bracket stays"),
    ],
)
def test_names_are_replaced_and_everything_else_stays(text: str, expected: str) -> None:
    """As in a container."""
    assert expand(text, {"POD_IP": "127.64.0.1"}) == expected
