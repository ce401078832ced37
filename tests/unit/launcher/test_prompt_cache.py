"""The prompt cache: what is saved first, what makes it void, and what of the Pod keeps it."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer import backends
from flexinfer.api.headers import Headers
from flexinfer.api.model import Cache, CacheStatus, Model, ModelSpec
from flexinfer.api.reason import Reason
from flexinfer.events.workload import PodFacts
from flexinfer.launcher.manifests import LaunchSettings, template
from flexinfer.launcher.prompt_cache import Slot, expected_bytes, name_of, order, room
from tests.builders import a_model


def keeping(**changes: Any) -> Model:
    """Return a Model that keeps 64 MiB of prompt caches."""
    facts: dict[str, Any] = {
        "source": "HF://org/m",
        "config": {"ggufFile": "q4.gguf", "keepPromptCacheMB": 64},
        "cache_status": CacheStatus(revision="r1", bytes=7),
    }
    return a_model("m", **(facts | changes))


POD = PodFacts(name="m-0", uid="p", template="t")


@pytest.mark.parametrize(
    ("model", "pod", "build"),
    [
        pytest.param(keeping(cache_status=CacheStatus(revision="r2", bytes=7)), POD, "b1", id="weights"),
        pytest.param(keeping(cache_status=CacheStatus(revision="r1", bytes=8)), POD, "b1", id="size"),
        pytest.param(keeping(), PodFacts(name="m-0", uid="p", template="u"), "b1", id="template"),
        pytest.param(keeping(), POD, "b2", id="engine"),
        pytest.param(keeping(uid="another"), POD, "b1", id="a Model made again"),
    ],
)
def test_what_makes_a_cache_void_gives_it_another_name(model: Model, pod: PodFacts, build: str) -> None:
    """So that it is not even looked for."""
    assert name_of(model, pod, build) != name_of(keeping(), POD, "b1")


def test_another_pod_of_the_same_template_finds_the_cache() -> None:
    """That is the point of it."""
    assert name_of(keeping(), PodFacts(name="m-0", uid="q", template="t"), "b1") == name_of(
        keeping(), POD, "b1"
    )


@given(
    st.lists(st.builds(Slot, id=st.integers(0, 9), is_processing=st.booleans(), id_task=st.integers(-1, 99)))
)
def test_the_slot_that_was_used_last_is_saved_first(slots: list[Slot]) -> None:
    """One that works, or that was never used, is not saved at all."""
    saved = order(slots)
    assert [s.id_task for s in saved] == sorted((s.id_task for s in saved), reverse=True)
    assert {id(s) for s in slots} - {id(s) for s in saved} == {
        id(s) for s in slots if s.is_processing or s.id_task < 0
    }


def test_the_size_of_a_cache_follows_from_the_headers() -> None:
    """SmolLM2-135M: 904 tokens were 20,843,396 bytes in a real engine's file."""
    headers = Headers(layers=30, kv_heads=3, key_length=64, value_length=64)
    assert abs(expected_bytes(Slot(id=0, n_prompt_tokens=904), headers) / 20_843_396 - 1) < 0.01
    assert expected_bytes(Slot(id=0, n_prompt_tokens=904), None) == 0


def test_a_model_without_the_key_keeps_nothing() -> None:
    """Its Pod has no folder for it and its engine no flag."""
    plain = a_model("m")
    assert (room(plain), room(keeping())) == (0, 64 * 2**20)
    made = template(plain, LaunchSettings())
    assert made is not None
    assert "initContainers" not in made.spec
    assert "--slot-save-path" not in made.spec["containers"][0]["args"]


def test_without_a_claim_nothing_is_kept() -> None:
    """Strategy Memory where no StorageClass exists: the folder would be memory of the Pod, and end with it."""
    without = keeping(conditions=(("Cached", "True", Reason.NO_CLAIM),))
    spec = msgspec.structs.replace(without.spec, cache=Cache(strategy="Memory"))
    without = msgspec.structs.replace(without, spec=spec)
    assert room(without) == 0
    assert room(msgspec.structs.replace(without, status=keeping().status)) == 64 * 2**20


def test_the_folder_is_prepared_by_an_init_container_and_mounted_by_the_engine() -> None:
    """On the Model's own claim, by its uid; the weights stay read-only."""
    made = template(keeping(), LaunchSettings(image="ours:1"))
    assert made is not None
    (prepare,), (engine,) = made.spec["initContainers"], made.spec["containers"]
    assert (prepare["image"], prepare["args"]) == (
        "ours:1",
        ["--folder", "/models/.flexinfer/prompts-uid-m", "--room-mb", "64"],
    )
    weights, prompts = engine["volumeMounts"]
    assert weights["readOnly"]
    assert prompts == {
        "name": "weights",
        "mountPath": "/var/cache/flexinfer/prompts",
        "subPath": ".flexinfer/prompts-uid-m",
    }
    line = engine["args"]
    assert line[line.index("--slot-save-path") + 1] == prompts["mountPath"]
    assert made.spec["securityContext"]["fsGroup"] == 65532
    assert not made.fetches


@pytest.mark.parametrize(
    ("source", "cache", "accepted"),
    [
        ("HF://org/m", None, True),
        ("HF://org/m", Cache(strategy="SharedPVC"), True),
        ("HF://org/m", Cache(strategy="SharedPVC", pvc_name="shared"), False),
        ("HF://org/m", Cache(strategy="Memory"), True),
        ("HF://org/m", Cache(strategy="Memory", pvc_name="shared"), False),
        ("HF://org/m", Cache(strategy="None"), False),
        ("pvc://models/m.gguf", None, False),
        ("file:///m.gguf", None, False),
    ],
)
def test_prompts_are_kept_only_where_no_other_model_reads_them(
    source: str, cache: Cache | None, *, accepted: bool
) -> None:
    """On a claim that FlexInfer made for the Model; the refusal says what to use."""
    backend = backends.find("llamacpp")
    assert backend is not None
    config = {"ggufFile": "q4.gguf", "keepPromptCacheMB": 64}
    problems = backend.refuse(ModelSpec(backend="llamacpp", source=source, cache=cache, config=config))
    assert [("SharedPVC" in problem.message) for problem in problems] == ([] if accepted else [True])
