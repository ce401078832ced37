"""What a command says of a Model that does not exist: which one was probably meant."""

from typing import Any, cast

import msgspec
import pytest

from flexinfer.cli.errors import CommandError
from flexinfer.cli.reach import model_of
from tests.builders import a_model
from tests.unit.prefetcher.cluster import DictCluster


@pytest.mark.parametrize(
    ("namespace", "typed", "suggestion"),
    [
        ("default", "smolm", "did you mean smollm2? "),
        ("default", "SmolLM2", "did you mean smollm2 -n default? "),
        ("default", "mdl/smollm2", "did you mean smollm2 -n default? "),
        ("default", "default/smollm2", "did you mean smollm2 -n default? "),
        ("team", "smollm2", "did you mean smollm2 -n default? "),
        ("team", "smolm", ""),
        ("default", "qwen", ""),
    ],
)
async def test_a_model_that_does_not_exist_is_not_found_with_the_one_that_was_meant(
    namespace: str, typed: str, suggestion: str
) -> None:
    """A slip of one letter, another case, kubectl's form with a slash, and another namespace."""
    cluster = DictCluster(a_model("smollm2"))
    if namespace != "default":
        cluster.objects = {("models", "other"): {**msgspec.to_builtins(a_model("smollm2"))}}
    with pytest.raises(CommandError) as refused:
        await model_of(cast("Any", cluster), namespace, typed)
    assert str(refused.value) == (
        f"Model {typed!r} not found in namespace {namespace}; {suggestion}`kubectl get mdl -A` lists all Models"
    )
