"""Names: what a Model is called besides its name, and which of that also means another."""

from collections.abc import Sequence

import msgspec
import pytest

from flexinfer.api import names
from flexinfer.api.model import LiteLLM, Model
from tests.builders import a_model


def named(
    name: str,
    *aliases: str,
    labels: Sequence[str] = (),
    served: str | None = None,
    copilot: str | None = None,
    enabled: bool = True,
    namespace: str = "default",
) -> Model:
    """Return a Model with further names."""
    model = a_model(name, namespace=namespace)
    litellm = LiteLLM(
        enabled=enabled, served_model_name=served, aliases=tuple(aliases), copilot_alias=copilot
    )
    spec = msgspec.structs.replace(model.spec, litellm=litellm, service_labels=tuple(labels))
    return msgspec.structs.replace(model, spec=spec)


def test_every_name_of_litellm_is_an_alias() -> None:
    """Once each, and not the Model's own name again."""
    model = named("llama", "a", "llama", "gpt-4", served="gpt-4", copilot="copilot-gpt")
    assert names.aliases(model) == ("gpt-4", "a", "copilot-gpt")
    assert names.aliases(named("llama", "a", enabled=False)) == ()
    assert names.aliases(a_model()) == ()


def test_labels_have_no_case() -> None:
    """Those that differ by it alone are one."""
    assert names.labels(named("llama", labels=["TextGen", "code", "textgen"])) == ("textgen", "code")


@pytest.mark.parametrize(
    ("one", "other", "phrase"),
    [
        (named("a", "gpt-4"), named("b", "gpt-4"), "gpt-4 (alias here, alias of b)"),
        (named("a", "b"), named("b"), "b (alias here, name of b)"),
        (named("a", served="gpt-4"), named("b", copilot="gpt-4"), "gpt-4 (alias here, alias of b)"),
        (named("a", labels=["B"]), named("b"), "b (label here, name of b)"),
        (named("a", "Code"), named("b", labels=["code"]), "Code (alias here, label of b)"),
        (named("a"), named("b", labels=["A"]), "a (name here, label of b)"),
    ],
)
def test_a_name_that_means_two_models_is_a_conflict_of_both(one: Model, other: Model, phrase: str) -> None:
    """And they are known to each other by what they are called."""
    assert names.conflicts(one, [other]) == (phrase,)
    assert names.conflicts(other, [one])
    assert set(names.claims(one)) & set(names.claims(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (named("a", labels=["code"]), named("b", labels=["Code"])),
        (named("a", "x"), named("b", "y")),
        (named("a", "GPT-4"), named("b", "gpt-4")),
        (named("a", "gpt-4", enabled=False), named("b", "gpt-4")),
    ],
)
def test_models_share_labels_and_nothing_else(one: Model, other: Model) -> None:
    """A purpose may be served by several; the case of an alias counts."""
    assert names.conflicts(one, [other]) == ()


def test_the_same_name_in_another_namespace_is_no_conflict() -> None:
    """The long form tells them apart."""
    one, other = named("a", "gpt-4"), named("b", "gpt-4", namespace="team")
    assert not set(names.claims(one)) & set(names.claims(other))
