"""Plugins: found because their module is in a package, and known by each of their names."""

import pytest

from flexinfer import plugins
from flexinfer.sources import Scheme


def test_every_module_with_an_object_of_the_type_is_found() -> None:
    """In the order of module names; modules without one are passed over."""
    schemes = plugins.discover("flexinfer.sources", "SCHEME", Scheme)
    assert [scheme.name for scheme in schemes] == ["file", "HF", "ollama", "pvc"]
    assert plugins.discover("flexinfer.sources", "SCHEME", int) == ()


def test_two_plugins_of_one_name_are_an_error() -> None:
    """Neither silently replaces the other."""
    assert plugins.index(["a", "b"], lambda one: (one, one.upper())) == {
        "a": "a",
        "A": "a",
        "b": "b",
        "B": "b",
    }
    with pytest.raises(ValueError, match="two plugins are named x"):
        plugins.index(["a", "b"], lambda _: ("x",))
