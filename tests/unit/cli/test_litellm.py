"""`flexinfer litellm render`: from the annotations that the launcher writes to entries that LiteLLM reads."""

from typing import Any

import msgspec
import pytest

from flexinfer.api.kube import Service
from flexinfer.api.model import Model
from flexinfer.cli.litellm import choose, entries_of, rendered
from flexinfer.launcher.manifests import service
from flexinfer.launcher.manifests import LaunchSettings
from tests.builders import a_model

BASE = "http://flexinfer-proxy.flexinfer-system.svc"


def services(*models: Model) -> list[Service]:
    """Return the Services of these Models as the launcher makes them."""
    return [msgspec.convert(service(model, LaunchSettings()), Service) for model in models]


def offered(*models: Model, proxy: str = "") -> dict[str, tuple[str, str]]:
    """Return name -> (api_base, model) of the entries for these Models."""
    entries, _ = choose([entry for s in services(*models) for entry in entries_of(s)])
    configs = [rendered(entry, name, proxy, "KEY") for name, entry in entries]
    return {c["model_name"]: (c["litellm_params"]["api_base"], c["litellm_params"]["model"]) for c in configs}


def exposed(name: str, labels: tuple[str, ...] = (), namespace: str = "default", **litellm: Any) -> Model:
    """Return a Model that LiteLLM is to find."""
    return a_model(
        name, namespace=namespace, uid=f"{namespace}-{name}", service_labels=labels, litellm=litellm
    )


def test_every_name_of_a_model_leads_to_its_own_path() -> None:
    """Its served name, its aliases and its copilot alias."""
    model = exposed("llama", servedModelName="gpt-4", aliases=["gpt-4-turbo"], copilotAlias="pilot")
    own = (f"{BASE}/model/default/llama/v1", "openai/llama")
    assert offered(model) == {"gpt-4": own, "gpt-4-turbo": own, "pilot": own}


def test_a_label_leads_to_the_path_that_is_common_to_all() -> None:
    """Once, however many Models have it: which one serves it is for FlexInfer's proxy to choose."""
    names = offered(exposed("a", ("code",)), exposed("b", ("code", "text")))
    assert names["code"] == (f"{BASE}/v1", "openai/default/code")
    assert set(names) == {"a", "b", "code", "text"}


@pytest.mark.parametrize(
    "proxy", ["http://127.0.0.1:8080", "http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1"]
)
def test_the_address_of_the_proxy_can_be_another_one(proxy: str) -> None:
    """Where LiteLLM does not run in the cluster."""
    names = offered(exposed("a", ("code",)), proxy=proxy)
    assert names["a"][0] == "http://127.0.0.1:8080/model/default/a/v1"
    assert names["code"][0] == "http://127.0.0.1:8080/v1"


def test_a_name_of_two_namespaces_is_offered_with_them() -> None:
    """LiteLLM would spread its requests over both."""
    names = offered(
        exposed("a", servedModelName="gpt-4"), exposed("b", namespace="team", servedModelName="gpt-4")
    )
    assert set(names) == {"default/gpt-4", "team/gpt-4"}


def test_a_name_of_two_models_is_left_out_and_said() -> None:
    """It means neither at FlexInfer's proxy either."""
    models = exposed("a", aliases=["gpt-4"]), exposed("b", aliases=["gpt-4"])
    assert set(offered(*models)) == {"a", "b"}
    _, left_out = choose([entry for s in services(*models) for entry in entries_of(s)])
    assert left_out == ["gpt-4 means a and b in namespace default and is left out; change one of them"]


@pytest.mark.parametrize(
    "model", [a_model("a"), exposed("a", enabled=False), a_model("a", service_labels=("x",))]
)
def test_a_model_that_litellm_is_not_to_find_is_not_offered(model: Model) -> None:
    """Without spec.litellm there are no annotations."""
    assert offered(model) == {}


def test_an_entry_keeps_its_id_and_holds_no_key() -> None:
    """The id is of the Model's life; the key is read from LiteLLM's environment."""
    [(name, entry)], _ = choose(list(entries_of(services(exposed("llama"))[0])))
    assert rendered(entry, name, "", "FLEXINFER_KEY") == {
        "model_name": "llama",
        "litellm_params": {
            "model": "openai/llama",
            "api_base": f"{BASE}/model/default/llama/v1",
            "api_key": "os.environ/FLEXINFER_KEY",
        },
        "model_info": {"id": "default-llama/llama"},
    }
