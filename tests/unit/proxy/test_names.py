"""Further names at the proxy: aliases of LiteLLM and labels, where they lead and how they are listed."""

import msgspec
import pytest

from flexinfer.api.model import Gpu, LiteLLM, Model
from flexinfer.api.reasons import Reason
from flexinfer.events import events
from flexinfer.proxy import routing
from flexinfer.proxy.errors import RequestError
from flexinfer.proxy.models import ModelTable
from tests.unit.proxy.parts import Parts, failed, ready, scaled_to_zero, settle, with_parts
from tests.unit.proxy.test_http import KEY, a_client


def labelled(model: Model, *labels: str, priority: int = 0, **litellm: object) -> Model:
    """Return a Model with labels, a priority and names of LiteLLM."""
    gpu = Gpu(count=1, shared="card", priority=priority) if priority else model.spec.gpu
    lite = msgspec.convert(litellm, LiteLLM) if litellm else None
    spec = msgspec.structs.replace(model.spec, gpu=gpu, service_labels=labels, litellm=lite)
    return msgspec.structs.replace(model, spec=spec)


def find(name: str, *models: Model) -> str | None:
    """Return the key of the Model that a name reaches, of these."""
    table = ModelTable()
    for model in models:
        table.observe(model)
    reached = routing.find_model(name, table, "default")
    return reached.key if reached is not None else None


COLD_LOW = labelled(scaled_to_zero("low"), "TextGen", priority=1)
COLD_HIGH = labelled(scaled_to_zero("high"), "textgen", priority=9)
COLD_A = labelled(scaled_to_zero("a"), "textgen", priority=1)
WARM = labelled(ready("warm"), "textgen", "code")
BROKEN = labelled(failed("Accepted", Reason.INVALID_CONFIG, "x"), "textgen", priority=99)
TEAM = labelled(ready("theirs", namespace="team", uid="t"), "textgen", "vision")
OTHERS = labelled(ready("others", namespace="other", uid="o"), "vision")


@pytest.mark.parametrize(
    ("name", "models", "key"),
    [
        ("textgen", [COLD_LOW, COLD_HIGH, WARM], "default/warm"),
        ("textgen", [COLD_LOW, COLD_HIGH], "default/high"),
        ("textgen", [COLD_LOW, COLD_A], "default/a"),
        ("textgen", [COLD_LOW, BROKEN], "default/low"),
        ("textgen", [BROKEN], "default/llama"),
        ("TEXTGEN", [COLD_LOW], "default/low"),
        ("code", [WARM], "default/warm"),
        ("textgen", [COLD_LOW, TEAM], "default/low"),
        ("team/TextGen", [COLD_LOW, TEAM], "team/theirs"),
        ("vision", [TEAM], "team/theirs"),
        ("vision", [TEAM, OTHERS], None),
        ("other/vision", [TEAM, OTHERS], "other/others"),
        ("default/vision", [TEAM], None),
        ("theirs", [TEAM], "team/theirs"),
        ("absent", [WARM], None),
    ],
)
def test_a_label_goes_to_the_best_model_that_has_it(name: str, models: list[Model], key: str | None) -> None:
    """Ready first, then priority, then name; in the default namespace, the one that is named, or the only one that knows it."""
    assert find(name, *models) == key


def test_a_name_comes_before_an_alias_and_that_before_a_label() -> None:
    """Within a namespace; and an alias of two Models names neither, although a third has it as a label."""
    by_name = ready("x")
    by_alias = labelled(ready("b"), aliases=["x"])
    by_label = labelled(ready("c"), "x")
    assert find("x", by_label, by_alias, by_name) == "default/x"
    assert find("x", by_label, by_alias) == "default/b"
    assert find("x", by_label) == "default/c"
    assert find("x", by_label, by_alias, labelled(ready("d"), aliases=["x"])) is None


@pytest.mark.parametrize("name", ["gpt-4", "gpt-4-turbo", "copilot-gpt", "openai/gpt-4", "default/gpt-4"])
def test_every_name_of_litellm_reaches_its_model(name: str) -> None:
    """Also with a slash in it, and with the namespace before it."""
    model = labelled(
        ready("llama"),
        servedModelName="gpt-4",
        aliases=["gpt-4-turbo", "openai/gpt-4"],
        copilotAlias="copilot-gpt",
    )
    assert find(name, model) == "default/llama"


def test_names_that_a_model_loses_reach_it_no_more() -> None:
    """The index follows every change."""
    table = ModelTable()
    table.observe(labelled(ready("llama", version=2), "code", copilotAlias="pilot"))
    table.observe(labelled(ready("llama", version=3), "text"))
    assert [routing.find_model(n, table, "default") is not None for n in ("code", "pilot", "text")] == [
        False,
        False,
        True,
    ]


def test_a_request_by_a_label_starts_the_model_that_serves_it() -> None:
    """The engine gets the name that it knows."""

    async def main(parts: Parts) -> None:
        await parts.observe(COLD_LOW, COLD_HIGH)
        request = parts.gateway.resolve("/v1/completions", "proxy", b'{"model": "textgen"}')
        assert msgspec.json.decode(request.body) == {"model": "high"}
        sent = parts.send(request)
        await settle()
        assert {wake.name for wake in parts.published(events.WakeRequested)} == {"high"}
        sent.cancel()
        with pytest.raises(RequestError, match="model 'vision' does not exist"):
            parts.gateway.find("vision")

    with_parts(main)


def test_every_further_name_is_listed_once_with_the_model_that_it_reaches() -> None:
    """In the shortest form that reaches it; not one that reaches nothing."""
    table = ModelTable()
    twice = [labelled(ready(name, uid=name), aliases=["both"]) for name in ("m", "n")]
    for model in (COLD_LOW, WARM, TEAM, OTHERS, *twice):
        table.observe(model)
    listed = {n: m.key for n, m in routing.further_names(table, "default").items()}
    assert listed == {
        "code": "default/warm",
        "other/vision": "other/others",
        "team/textgen": "team/theirs",
        "team/vision": "team/theirs",
        "TextGen": "default/warm",
    }
    assert all(routing.find_model(name, table, "default") is not None for name in listed)


async def test_the_list_of_models_has_their_further_names() -> None:
    """As entries of their own, since clients offer what is listed, and in the entry of the Model."""
    async with a_client(
        labels=("Chat",), litellm={"servedModelName": "gpt-4", "aliases": ["fast"]}
    ) as client:
        listed = (await (await client.get("/v1/models", headers=KEY)).json())["data"]
        by_alias = await (await client.get("/v1/models/fast", headers=KEY)).json()
        own = (await (await client.get("/model/default/llama/v1/models", headers=KEY)).json())["data"]
    assert [(entry["id"], entry["root"]) for entry in listed] == [
        ("llama", "llama"),
        ("Chat", "llama"),
        ("fast", "llama"),
        ("gpt-4", "llama"),
    ]
    assert listed[0]["flexinfer"]["aliases"] == ["gpt-4", "fast"]
    assert listed[0]["flexinfer"]["serviceLabels"] == ["Chat"]
    assert (by_alias["id"], by_alias["root"]) == ("fast", "llama")
    assert [entry["id"] for entry in own] == ["llama"]
