"""Every planted fault can still be planted: its patch applies, and its unit tests exist."""

import pytest

from tests.mutants.patches import HERE, Patch, PatchError, apply, patches, read
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
