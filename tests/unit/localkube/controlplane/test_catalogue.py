"""The catalogue: which versions of a foreign program will do."""

import pytest

from localkube.controlplane import catalogue
from localkube.controlplane.build import module_folder


@pytest.mark.parametrize(
    ("told", "version"),
    [
        (b"Kubernetes v1.37.2\n", (1, 37, 2)),
        (b"etcd Version: 3.7.3\nGit SHA: Not provided\nGo Version: go1.26.8\n", (3, 7, 3)),
        (b"v0.0.0-master+$Format:%H$", (0, 0, 0)),
        (b"no number here, nor in 1.2", None),
    ],
)
def test_a_version_is_read_from_what_a_program_prints(
    told: bytes, version: tuple[int, int, int] | None
) -> None:
    """The first one: later lines speak of other things."""
    assert catalogue.version_in(told) == version


def test_a_minor_release_of_kubernetes_will_do_and_its_neighbours_will_not() -> None:
    """Their APIs differ, and transcripts with them."""
    assert catalogue.API_SERVER.accepts((1, 37, 0))
    assert not catalogue.API_SERVER.accepts((1, 36, 9))
    assert not catalogue.API_SERVER.accepts((1, 38, 0))


@pytest.mark.parametrize("source", catalogue.CONTROL_PLANE, ids=lambda source: source.name)
def test_each_is_pinned_by_a_module_that_names_its_version(source: catalogue.Source) -> None:
    """What is built is what the catalogue says."""
    with module_folder(source.module) as folder:
        pinned = (folder / "go.mod").read_text()
        assert (folder / "go.sum").stat().st_size
    assert f"v{source.version}" in pinned
    assert "\ntool" in pinned
