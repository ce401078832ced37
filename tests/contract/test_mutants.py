"""Every planted fault can still be planted: its patch applies, and its unit tests exist."""

import pytest

from tests.mutants.patches import HERE, Patch, PatchError, apply, patches, read
from tests.mutants.survivors import SURVIVORS, differences, listed
from tests.mutants.trial import ROOT


@pytest.mark.parametrize("patch", patches(), ids=lambda patch: patch.name)
def test_a_patch_applies(patch: Patch) -> None:
    """Who changes what it plants its fault in plants it again: `make mutants`."""
    apply(patch, ROOT, check=True)
    assert [path for path in patch.tests if not (ROOT / path).exists()] == []


def test_a_patch_that_does_not_apply_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With what git says of it."""
    patch = patches()[0]
    with pytest.raises(PatchError, match=f"^{patch.name} does not apply"):
        apply(patch, tmp_path_factory.mktemp("empty"), check=True)


def test_a_patch_without_a_head_is_an_error(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A reader must see what it plants."""
    bare = tmp_path_factory.mktemp("bare") / "bare.patch"
    bare.write_text("Plants: nothing\n\ndiff --git a/x b/x\n")
    with pytest.raises(PatchError, match="no line `Breaks"):
        read(bare)


def test_all_patches_are_read() -> None:
    """None is left out by its name."""
    assert len(patches()) == len(list(HERE.glob("*.patch")))


def test_every_listed_survivor_has_its_reason() -> None:
    """What is not worth a test says why."""
    reasons = listed(SURVIVORS.read_text())
    assert list(differences({*reasons}, reasons)) == []


def test_a_survivor_that_is_not_listed_is_named_and_so_is_one_that_does_not_survive() -> None:
    """A change may hold a bar of its own."""
    reasons = listed("| Mutant | Reason |\n|---|---|\n| a: `x | y` -> `x` | same |\n| b: `1` -> `2` | |\n")
    assert reasons == {"a: `x | y` -> `x`": "same", "b: `1` -> `2`": ""}
    assert [*differences({"c", "b: `1` -> `2`"}, reasons)] == [
        "survives, and is not in survivors.md: c",
        "listed, and does not survive: a: `x | y` -> `x`",
        "listed without a reason: b: `1` -> `2`",
    ]
