"""ComfyUI's prompts: whatever an engine sends is read, or counts as nothing."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flexinfer.backends import comfyui_prompts
from flexinfer.backends.operations import End, Step

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("type", "data", "nodes", "value", "max", "state", "prompt_id", "status", "messages", "p")
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.binary(max_size=20))
def test_nothing_that_an_engine_sends_raises(value: Any, odd: bytes) -> None:
    """Neither JSON of any shape nor other bytes."""
    for text in (json.dumps(value).encode(), odd, b"[" * 5000):
        comfyui_prompts.id_of(text)
        comfyui_prompts.left_of(text)
        comfyui_prompts.end_of("p", text)
        comfyui_prompts.step_of(text.decode(errors="replace"))
        comfyui_prompts.may_have_ended(text.decode(errors="replace"))


def an_event(kind: str, **data: Any) -> str:
    """Return a message of the WebSocket."""
    return json.dumps({"type": kind, "data": data})


def test_of_several_nodes_the_one_with_the_most_steps_counts() -> None:
    """Those that wait, have ended or count nothing do not."""
    nodes = {
        "1": {"value": 50, "max": 50, "state": "finished"},
        "2": {"value": 3, "max": 8, "state": "running"},
        "3": {"value": 12.0, "max": 20.0, "state": "running"},
        "4": {"value": 0, "max": 1, "state": "running"},
    }
    assert comfyui_prompts.step_of(an_event("progress_state", prompt_id="p", nodes=nodes)) == Step(
        "p", 12, 20, "3"
    )
    idle = {"4": nodes["4"]}
    assert comfyui_prompts.step_of(an_event("progress_state", prompt_id="p", nodes=idle)) is None


@pytest.mark.parametrize(
    ("node", "part"), [("12:4", "12:4"), ("a\r\nNats-Msg-Id: 1", ""), ("x" * 41, ""), (3, "")]
)
def test_a_node_is_shown_whose_name_has_the_form_of_one(node: object, part: str) -> None:
    """It becomes part of a message's header."""
    step = comfyui_prompts.step_of(an_event("progress", prompt_id="p", value=1, max=20, node=node))
    assert step == Step("p", 1, 20, part)


@pytest.mark.parametrize("value", [-1, "1", None, True, 1e300, float("inf")])
def test_what_is_no_number_of_steps_is_none(value: object) -> None:
    """It may be anything."""
    assert comfyui_prompts.step_of(an_event("progress", prompt_id="p", value=value, max=20)) is None


@pytest.mark.parametrize(
    ("message", "may"),
    [
        (an_event("status", status={"exec_info": {"queue_remaining": 0}}), True),
        (an_event("executing", node=None, prompt_id="p"), True),
        (an_event("executing", node="3", prompt_id="p"), False),
        (an_event("execution_success", prompt_id="p"), True),
        (an_event("execution_error", prompt_id="p"), True),
        (an_event("progress", value=1, max=2), False),
    ],
)
def test_what_gives_cause_to_look_for_an_end(message: str, *, may: bool) -> None:
    """The queue has changed, or a prompt has ended."""
    assert comfyui_prompts.may_have_ended(message) is may


def test_the_end_of_a_prompt_is_in_its_own_entry() -> None:
    """Without one it waits or runs; a server that keeps no status has only entries of what ended well."""
    done = {"p": {"outputs": {}, "status": {"status_str": "success", "completed": True, "messages": []}}}
    assert comfyui_prompts.end_of("p", json.dumps(done).encode()) == End()
    assert comfyui_prompts.end_of("p", b'{"p": {"outputs": {}}}') == End()
    assert comfyui_prompts.end_of("q", json.dumps(done).encode()) is None


@pytest.mark.parametrize("prompt", ["", "a/b", "a b", "..%2f", "x" * 129, 7, None])
def test_an_id_of_another_form_is_none(prompt: object) -> None:
    """It would be part of a path."""
    assert comfyui_prompts.id_of(json.dumps({"prompt_id": prompt}).encode()) == ""


def test_the_number_of_prompts_that_are_left_is_a_number() -> None:
    """Else it is not known."""
    assert comfyui_prompts.left_of(b'{"exec_info": {"queue_remaining": 2}}') == 2
    assert comfyui_prompts.left_of(b'{"exec_info": {"queue_remaining": true}}') is None
    assert comfyui_prompts.left_of(b"{}") is None
