"""SharedGroup: its name is derived from its group's, and no two groups share one."""

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from flexinfer.api.sharedgroup import SharedGroup, object_name
from tests.builders import a_group

NAMES = st.one_of(
    st.text(min_size=1, max_size=63),
    st.from_regex(r"[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?", fullmatch=True),
    st.from_regex(r"[a-z0-9]{1,5}-[0-9a-f]{16}", fullmatch=True),
)
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


@given(NAMES)
def test_any_group_has_a_valid_object_name(group: str) -> None:
    """A lower-case subdomain of at most 63 characters, which a label may hold too."""
    name = object_name(group)
    assert SUBDOMAIN.fullmatch(name)
    assert len(name) <= 63


@given(NAMES, NAMES)
def test_no_two_groups_have_the_same_object(one: str, other: str) -> None:
    """Else two groups would hold one device list."""
    assume(one != other)
    assert object_name(one) != object_name(other)


@given(NAMES)
def test_no_group_takes_the_derived_name_of_another(group: str) -> None:
    """A name that looks like a slug with a hash is hashed too."""
    name = object_name(group)
    if name != group:
        assert object_name(name) != name


@pytest.mark.parametrize("group", ["homelab-gpu", "a.b", "x", "gpu0"])
def test_a_group_with_a_plain_name_has_an_object_of_that_name(group: str) -> None:
    """So that `kubectl get sharedgroup homelab-gpu` finds it."""
    assert object_name(group) == group


def test_only_an_object_of_the_derived_name_counts() -> None:
    """Also when its status says that it was initialised."""
    right: SharedGroup = a_group()
    wrong: SharedGroup = a_group(name="other")
    assert (right.counts, right.initialized) == (True, True)
    moved = type(wrong)(metadata=right.metadata, spec=wrong.spec, status=wrong.status)
    assert (moved.counts, moved.initialized) == (False, False)
